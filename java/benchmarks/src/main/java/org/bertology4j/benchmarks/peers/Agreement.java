package org.bertology4j.benchmarks.peers;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import org.bertology4j.BertologyException;

/**
 * Whether two programs compute the same.
 *
 * @param difference the Euclidean length of the difference of their outputs, relative to that of
 *     the expected ones
 * @param tolerance the largest difference that is put down to rounding
 */
public record Agreement(double difference, double tolerance) {
  /** Compares outputs in memory with those in a file. */
  public static Agreement between(float[] expected, Path outputs, double tolerance) {
    try {
      ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(outputs));
      float[] actual = new float[bytes.remaining() / Float.BYTES];
      bytes.order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(actual);
      return between(expected, actual, tolerance);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be read: %s", outputs, e);
    }
  }

  static Agreement between(float[] expected, float[] actual, double tolerance) {
    BertologyException.check(
        expected.length == actual.length,
        "%d outputs, expected %d",
        actual.length,
        expected.length);
    double apart = 0;
    double length = 0;
    for (int i = 0; i < expected.length; i++) {
      double difference = (double) actual[i] - expected[i];
      apart += difference * difference;
      length += (double) expected[i] * expected[i];
    }
    return new Agreement(Math.sqrt(apart / length), tolerance);
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
