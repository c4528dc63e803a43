package org.bertology4j;

import java.util.function.Function;
import org.bertology4j.internal.Native;
import org.bertology4j.internal.Resource;
import org.bertology4j.internal.binding.bertology;
import org.bertology4j.internal.binding.bertology_device;
import org.bytedeco.javacpp.Pointer;

/**
 * A device: its threads and kernels. Those who open the same device with the same number of threads
 * share it, and models keep it open while they live.
 */
public final class Device implements AutoCloseable {
  private final bertology_device handle;
  private final Resource resource;
  private final String name;
  private final int threads;

  private Device(String name, int threads, bertology_device opened) {
    this.name = name;
    this.threads = threads;
    this.handle = opened;
    this.resource = new Resource(this, "device", () -> bertology.bertology_device_close(opened));
  }

  /**
   * Opens a device with as many threads as this process may use. See {@link #open(String, int)}.
   */
  public static Device open(String name) {
    return open(name, 0);
  }

  /**
   * Opens a device by name: "cpu", or "auto", which takes the best that there is and says so in
   * {@link #description}. A device that is named and missing is an error; nothing else is taken
   * instead.
   *
   * @param threads size of its thread pool; 0 for as many processors as this process may use
   *     (affinity and control group)
   */
  public static Device open(String name, int threads) {
    Native.load();
    // A build without another backend has one device to choose from.
    String chosen = name.equals("auto") ? "cpu" : name;
    bertology_device opened = new bertology_device((Pointer) null);
    Native.check(bertology.bertology_device_open(chosen, threads, opened));
    return new Device(chosen, threads, opened);
  }

  /** Another share of this device, which closing this one leaves open. */
  Device share() {
    return resource.use(() -> open(name, threads));
  }

  /** Its name, such as "cpu". */
  public String name() {
    return name;
  }

  /** What was chosen and why, a line each: threads, instruction set, library versions. */
  public String description() {
    return resource.use(() -> bertology.bertology_device_description(handle).getString());
  }

  /** Whether matrix products with inputs of this type run at hardware speed here. */
  public boolean supports(DType dtype) {
    return resource.use(() -> bertology.bertology_device_supports(handle, code(dtype)) != 0);
  }

  /**
   * Measures the device's own limit for matrix products, in floating-point operations per second:
   * the fastest of many large products that fit its caches, over all its threads. Other work on the
   * machine disturbs it.
   *
   * @param seconds about how long to measure
   */
  public double matrixPeak(DType dtype, double seconds) {
    return resource.use(
        () -> {
          double[] flops = new double[1];
          Native.check(bertology.bertology_device_matrix_peak(handle, code(dtype), seconds, flops));
          return flops[0];
        });
  }

  static int code(DType dtype) {
    return switch (dtype) {
      case FLOAT32 -> bertology.BERTOLOGY_FLOAT32;
      case BFLOAT16 -> bertology.BERTOLOGY_BFLOAT16;
    };
  }

  /** Calls it with the native handle, which stays open meanwhile. */
  <T> T use(Function<bertology_device, T> call) {
    return resource.use(() -> call.apply(handle));
  }

  /** Gives this share of the device back. Models that use it keep it open. */
  @Override
  public void close() {
    resource.close();
  }

  @Override
  public String toString() {
    return name;
  }
}
