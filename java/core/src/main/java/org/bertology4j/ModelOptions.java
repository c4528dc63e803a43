package org.bertology4j;

import java.util.Optional;

/** Where and how a model is loaded. Immutable. */
public final class ModelOptions {
  private static final ModelOptions DEFAULTS =
      new ModelOptions("auto", 0, DType.FLOAT32, Optional.empty());

  private final String deviceName;
  private final int threads;
  private final DType dtype;
  private final Optional<Device> device;

  private ModelOptions(String deviceName, int threads, DType dtype, Optional<Device> device) {
    this.deviceName = deviceName;
    this.threads = threads;
    this.dtype = dtype;
    this.device = device;
  }

  /** The best device that there is, with as many threads as this process may use; float32. */
  public static ModelOptions defaults() {
    return DEFAULTS;
  }

  /** The same on the device of this name; see {@link Device#open(String)}. */
  public ModelOptions device(String name) {
    return new ModelOptions(name, threads, dtype, Optional.empty());
  }

  /** The same on a device that is already open. */
  public ModelOptions device(Device open) {
    return new ModelOptions(open.name(), threads, dtype, Optional.of(open));
  }

  /** The same with this many threads; 0 for as many as this process may use. */
  public ModelOptions threads(int count) {
    return new ModelOptions(deviceName, count, dtype, device);
  }

  /** The same with matrix products of this type. */
  public ModelOptions dtype(DType type) {
    return new ModelOptions(deviceName, threads, type, device);
  }

  /** What matrix products take as inputs. */
  public DType dtype() {
    return dtype;
  }

  /** Opens the device, or another share of it. */
  Device openDevice() {
    return Device.open(deviceName, threads);
  }

  /** The device that was given open. */
  Optional<Device> givenDevice() {
    return device;
  }
}
