package org.bertology4j.text;

/** Where the code points of a text begin, as indexes into the string. */
final class CodePoints {
  private final int[] starts;

  CodePoints(String text) {
    int count = text.codePointCount(0, text.length());
    if (count == text.length()) {
      starts = null;
      return;
    }
    starts = new int[count + 1];
    for (int i = 1; i <= count; i++) {
      starts[i] = text.offsetByCodePoints(starts[i - 1], 1);
    }
  }

  /** The index of a code point; that of the one behind the last is the length of the text. */
  int index(int codePoint) {
    return starts == null ? codePoint : starts[codePoint];
  }
}
