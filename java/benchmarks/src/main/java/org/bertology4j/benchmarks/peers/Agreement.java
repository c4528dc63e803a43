package org.bertology4j.benchmarks.peers;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.bertology4j.BertologyException;

/**
 * Whether two programs compute the same.
 *
 * @param difference the Euclidean length of the difference of their outputs, relative to that of
 *     the expected ones; of several tensors the greatest
 * @param tolerance the largest difference that is put down to rounding
 */
public record Agreement(double difference, double tolerance) {
  /** Compares outputs in memory with those in a file. */
  public static Agreement between(List<float[]> expected, Path outputs, double tolerance) {
    try {
      ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(outputs));
      float[] actual = new float[bytes.remaining() / Float.BYTES];
      bytes.order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(actual);
      return between(expected, actual, tolerance);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be read: %s", outputs, e);
    }
  }

  /** Compares parts, each by itself, so that large numbers of one do not hide small ones. */
  static Agreement between(List<float[]> expected, float[] actual, double tolerance) {
    int outputs = expected.stream().mapToInt(part -> part.length).sum();
    BertologyException.check(
        outputs == actual.length, "%d outputs, expected %d", actual.length, outputs);
    double most = 0;
    int first = 0;
    for (float[] part : expected) {
      most = Math.max(most, difference(part, actual, first)); // NaN stays
      first += part.length;
    }
    return new Agreement(most, tolerance);
  }

  private static double difference(float[] expected, float[] actual, int first) {
    double apart = 0;
    double length = 0;
    for (int i = 0; i < expected.length; i++) {
      double difference = (double) actual[first + i] - expected[i];
      apart += difference * difference;
      length += (double) expected[i] * expected[i];
    }
    return apart == 0 ? 0 : Math.sqrt(apart / length);
  }

  /** Whether the difference is rounding. */
  public boolean agrees() {
    return difference <= tolerance; // not if it is NaN
  }

  @Override
  public String toString() {
    return String.format(Locale.ROOT, "differ by %.1e, tolerance %.0e", difference, tolerance);
  }
}
