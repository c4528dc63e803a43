package org.bertology4j;

import java.util.function.Function;
import org.bertology4j.internal.Native;
import org.bertology4j.internal.Resource;
import org.bertology4j.internal.binding.bertology;
import org.bertology4j.internal.binding.bertology_accumulator;
import org.bytedeco.javacpp.Pointer;

/**
 * Adds the heads' gradients of many runs up on the device that they run on: fused gradient
 * accumulation. The kernel that computes an example's gradients adds them; nothing of an example is
 * copied to the Java heap. Runs are asked to add by {@link RunOptions#accumulating}; a run that
 * fails adds nothing.
 *
 * <p>Its memory is the device's: 64 bytes a head. Safe for use from many threads, whose runs may
 * add to the same sums. Of several devices each has its own, and {@linkplain HeadGradientSums#plus
 * their sums are added}.
 */
public final class HeadGradientAccumulator implements AutoCloseable {
  private final int layers;
  private final int heads;
  private final bertology_accumulator handle;
  private final Resource resource;

  /** Sums of 0, for runs of this model and of others of its shape on its device. */
  public HeadGradientAccumulator(Model model) {
    layers = model.config().numHiddenLayers();
    heads = model.config().numAttentionHeads();
    bertology_accumulator created = new bertology_accumulator((Pointer) null);
    model.useDevice(
        device -> {
          Native.check(bertology.bertology_accumulator_create(device, layers, heads, created));
          return null;
        });
    handle = created;
    resource =
        new Resource(
            this, "accumulator of gradients", () -> bertology.bertology_accumulator_free(created));
  }

  /**
   * The sums over the examples of the runs that have ended.
   *
   * @throws BertologyException of kind {@link BertologyException.Kind#DEVICE} if the device has
   *     failed
   */
  public HeadGradientSums read() {
    return resource.use(
        () -> {
          double[] values = new double[HeadGradientSums.length(layers, heads)];
          long[] examples = new long[1];
          long[] tokens = new long[1];
          Native.check(
              bertology.bertology_accumulator_read(
                  handle, values, values.length, examples, tokens));
          return new HeadGradientSums(layers, heads, values, examples[0], tokens[0]);
        });
  }

  /** Makes all sums 0. Runs in progress add what they have to the new sums. */
  public void reset() {
    resource.use(
        () -> {
          Native.check(bertology.bertology_accumulator_reset(handle));
          return null;
        });
  }

  /** Calls it with the native handle, which stays open meanwhile. */
  <T> T use(Function<bertology_accumulator, T> call) {
    return resource.use(() -> call.apply(handle));
  }

  /** Frees the sums. Runs in progress are not disturbed. A second time does nothing. */
  @Override
  public void close() {
    resource.close();
  }
}
