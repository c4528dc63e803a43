package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Compares runs with golden numbers.
 *
 * <p>The bound of what a forward pass computes is 2.5e-6, or 2.5 times the reference's own float32
 * error where that is more: sums are added in another order on each instruction set, and the
 * largest error seen on any was 2.4 times either. Some captures are not of the size 1 that this
 * supposes: the outputs of heads have 2.5e-6 of the largest, a squared error d * d has 2 d times
 * the bound of its logit, and the cross entropy of a token, a difference of two numbers that are as
 * exact as the logits, twice theirs.
 *
 * <p>The bound of gradients is 1e-5 of the largest in the capture. A tensor that is small as a
 * whole has to keep to 1e-5 of its own largest too, or to 2.5 times the reference's own error.
 */
final class Parity {
  private final Golden golden;
  private final double times;
  private final Map<String, Double> largest = new HashMap<>();

  Parity(Golden golden) {
    this(golden, 1);
  }

  /** With so many times these bounds. */
  Parity(Golden golden, double times) {
    this.golden = golden;
    this.times = times;
  }

  double bound(Capture capture, double[] expected) {
    return times * boundOnCpu(capture, expected);
  }

  private double boundOnCpu(Capture capture, double[] expected) {
    double reference = 2.5 * golden.referenceError(capture.toString());
    double all = largest.computeIfAbsent(capture.toString(), c -> golden.largest(capture));
    if (capture.isGradient()) {
      return Math.min(1e-5 * all, Math.max(reference, 1e-5 * Golden.largest(expected)));
    }
    double size = 1;
    if (capture == Capture.HEAD_OUTPUTS) {
      size = all;
    } else if (capture == Capture.LOSS && golden.isRegression()) {
      size = 2 * Math.sqrt(expected[0]);
    }
    if ((capture == Capture.LOSS && golden.has("token_logits.0"))
        || capture == Capture.TOKEN_LOSSES) {
      reference = Math.max(reference, 5 * golden.referenceError(Capture.TOKEN_LOGITS.toString()));
    }
    return Math.max(reference, 2.5e-6 * Math.max(1, size));
  }

  /** All captures that the golden file has. */
  void assertSame(Activations run, int inBatch, int inGolden) {
    for (Capture capture : golden.captures()) {
      assertSame(capture, run, inBatch, inGolden);
    }
  }

  void assertSame(Capture capture, Activations run, int inBatch, int inGolden) {
    List<String> names = golden.names(capture, inGolden);
    assertFalse(names.isEmpty(), capture.toString());
    for (int l = 0; l < names.size(); l++) {
      FloatTensor tensor = run.get(capture, l, inBatch);
      long[] shape = Arrays.stream(golden.shape(names.get(l))).asLongStream().toArray();
      assertArrayEquals(shape, tensor.shape(), names.get(l));
      double[] expected = golden.doubles(names.get(l));
      assertSame(names.get(l), expected, tensor.toArray(), bound(capture, expected));
    }
  }

  static void assertSame(String name, double[] expected, float[] actual, double bound) {
    assertEquals(expected.length, actual.length, name);
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], actual[i], bound, name + " element " + i);
    }
  }
}
