package org.bertology4j;

import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.function.Function;
import java.util.function.Supplier;
import org.bertology4j.BertologyException.Kind;
import org.bertology4j.internal.CudaLibrary;
import org.bertology4j.internal.Native;
import org.bertology4j.internal.Resource;
import org.bertology4j.internal.binding.bertology;
import org.bertology4j.internal.binding.bertology_device;
import org.bytedeco.javacpp.Pointer;

/**
 * A device: its threads or streams, and its kernels. Those who open the same device with the same
 * number of threads share it, and models keep it open while they live.
 *
 * <p>CUDA devices need the jar of this library with the classifier {@code linux-x86_64-gpu} on the
 * class path, which is unpacked and loaded when one of them is first asked for, or the system
 * property {@code org.bertology4j.cuda.library} with the path of its libbertology_cuda.so; a driver
 * for CUDA 13 or newer; and compute capability 8.0 or newer.
 */
public final class Device implements AutoCloseable {
  private static final Logger LOG = System.getLogger(Device.class.getName());

  private static final String CPU = "cpu";
  private static final String FIRST_CUDA = "cuda:0";

  private final bertology_device handle;
  private final Resource resource;
  private final String name;
  private final int threads;

  /** Why it was taken, if it was not named. */
  private final Optional<String> choice;

  private Device(String name, int threads, Optional<String> choice) {
    Native.load();
    prepareCuda(name);
    bertology_device opened = new bertology_device((Pointer) null);
    Native.check(bertology.bertology_device_open(name, threads, opened));
    this.name = name;
    this.threads = threads;
    this.choice = choice;
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
   * Opens a device by name: "cpu"; "cuda:0", "cuda:1" and so on, "cuda" for the first of these; or
   * "auto", which takes the first CUDA device if it can be opened, else the CPU, and says so in
   * {@link #description} and the log. A device that is named and missing is an error; nothing else
   * is taken instead.
   *
   * @param threads size of the CPU's thread pool; 0 for as many processors as this process may use
   *     (affinity and control group)
   * @throws BertologyException of kind {@link BertologyException.Kind#DEVICE} if there is no such
   *     CUDA device: which jar is missing, or which driver is needed and which was found
   */
  public static Device open(String name, int threads) {
    if (!name.equals("auto")) {
      return new Device(name.equals("cuda") ? FIRST_CUDA : name, threads, Optional.empty());
    }
    return auto(
        threads,
        whyNoCuda(),
        () ->
            new Device(
                FIRST_CUDA, threads, Optional.of("the first of " + cudaCount() + " CUDA devices")));
  }

  /**
   * What "auto" opens: the CPU, and a log line, where there is no CUDA device or the first cannot
   * be opened, for want of memory too.
   *
   * @param why there is no CUDA device; empty if there is one
   */
  static Device auto(int threads, Optional<String> why, Supplier<Device> firstCuda) {
    if (why.isPresent()) {
      LOG.log(Level.DEBUG, "auto takes the CPU: {0}", why.get());
      return onCpu(threads, why.get());
    }
    try {
      return firstCuda.get();
    } catch (BertologyException e) {
      if (e.kind() != Kind.DEVICE && e.kind() != Kind.OUT_OF_MEMORY) {
        throw e;
      }
      LOG.log(Level.WARNING, "auto takes the CPU, not {0}: {1}", FIRST_CUDA, e.getMessage());
      return onCpu(threads, e.getMessage());
    }
  }

  private static Device onCpu(int threads, String why) {
    return new Device(CPU, threads, Optional.of("no CUDA device can be used: " + why));
  }

  /**
   * How many CUDA devices can be opened, "cuda:0" and those that follow it. If none, {@link
   * #whyNoCuda} says why.
   */
  public static int cudaCount() {
    return CudaLibrary.find().isPresent() ? 0 : countCuda();
  }

  private static int countCuda() {
    int[] count = new int[1];
    Native.check(bertology.bertology_cuda_device_count(count));
    return count[0];
  }

  /**
   * Why {@link #cudaCount} is 0: no library for CUDA, no driver or one that is too old, no device.
   * Empty if there are CUDA devices.
   */
  public static Optional<String> whyNoCuda() {
    return CudaLibrary.find()
        .or(
            () ->
                countCuda() > 0
                    ? Optional.empty()
                    : Optional.of(bertology.bertology_last_error().getString()));
  }

  private static void prepareCuda(String name) {
    if (!name.matches("cuda:\\d+")) {
      return;
    }
    CudaLibrary.find()
        .ifPresent(
            missing -> {
              throw new BertologyException(Kind.DEVICE, "device " + name + ": " + missing);
            });
    if (countCuda() > 0) { // it may unpack hundreds of megabytes
      CudaLibrary.loadPresetCublas();
    }
  }

  /** Another share of this device, which closing this one leaves open. */
  Device share() {
    return resource.use(() -> new Device(name, threads, choice));
  }

  /** Its name, such as "cpu" or "cuda:0". */
  public String name() {
    return name;
  }

  /**
   * What was chosen and why, a line each: threads, instruction set, library versions, of a CUDA
   * device its model and driver; of "auto" why this device was taken.
   */
  public String description() {
    String description =
        resource.use(() -> bertology.bertology_device_description(handle).getString());
    return choice.map(why -> description + "\nchosen by auto: " + why).orElse(description);
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

  /**
   * Measures how fast the device copies inside its memory, in bytes per second, those read and
   * those written: the limit of what reads and writes more than it computes. It takes half a
   * gigabyte meanwhile; other work on the machine disturbs it.
   *
   * @param seconds about how long to measure
   */
  public double copyPeak(double seconds) {
    return resource.use(
        () -> {
          double[] bytes = new double[1];
          Native.check(bertology.bertology_device_copy_peak(handle, seconds, bytes));
          return bytes[0];
        });
  }

  /**
   * Times one operation alone, on random numbers, in turn with a copy of as many bytes and, if it
   * is a matrix product and this a CUDA device, with cuBLAS. Other work on the machine disturbs it.
   *
   * @param config the shape of the layer
   * @param dtype the type that products take their inputs in
   * @param examples how many texts there are
   * @param length tokens of each text
   * @param seconds about how long to measure
   */
  public OperationTiming measure(
      Operation operation,
      ModelConfig config,
      DType dtype,
      int examples,
      int length,
      double seconds) {
    double[] measures = new double[bertology.BERTOLOGY_MEASURE_COUNT];
    Native.check(
        resource.use(
            () ->
                NativeConfig.use(
                    config,
                    dtype,
                    shape ->
                        bertology.bertology_device_measure(
                            handle,
                            operation.code(),
                            shape,
                            examples,
                            length,
                            seconds,
                            measures))));
    double library = measures[bertology.BERTOLOGY_MEASURE_LIBRARY_SECONDS];
    return new OperationTiming(
        operation,
        measures[bertology.BERTOLOGY_MEASURE_SECONDS],
        library > 0 ? OptionalDouble.of(library) : OptionalDouble.empty(),
        measures[bertology.BERTOLOGY_MEASURE_COPY_SECONDS],
        measures[bertology.BERTOLOGY_MEASURE_LEAST_BYTES],
        measures[bertology.BERTOLOGY_MEASURE_LEAST_FLOPS]);
  }

  static int code(DType dtype) {
    return switch (dtype) {
      case FLOAT32 -> bertology.BERTOLOGY_FLOAT32;
      case BFLOAT16 -> bertology.BERTOLOGY_BFLOAT16;
      case FLOAT16 -> bertology.BERTOLOGY_FLOAT16;
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
