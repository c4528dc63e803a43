package org.bertology4j.checkpoint;

import java.util.List;
import java.util.OptionalLong;

/** Sizes of tensors, without overflow. */
final class Shapes {
  private Shapes() {}

  /** Bytes of a tensor; empty if they are more than a long can say, or no whole number. */
  static OptionalLong bytes(List<Long> shape, int bitsOfElement) {
    try {
      long bits = bitsOfElement;
      for (long size : shape) {
        if (size < 0) {
          return OptionalLong.empty();
        }
        bits = Math.multiplyExact(bits, size);
      }
      return bits % 8 == 0 ? OptionalLong.of(bits / 8) : OptionalLong.empty();
    } catch (ArithmeticException e) {
      return OptionalLong.empty();
    }
  }
}
