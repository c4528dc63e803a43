package org.bertology4j.checkpoint;

import java.util.Collection;
import java.util.stream.Collectors;

/** Text from files, fit for a line of an error message. */
final class Messages {
  private static final int LONGEST = 120;
  private static final int MOST = 8;

  private Messages() {}

  /** The text in quotes, without control characters, cut if it is long. */
  static String quote(String text) {
    String clean =
        text.substring(0, Math.min(text.length(), LONGEST)).replaceAll("[\\p{Cntrl}]", "?");
    return '"' + clean + (text.length() > LONGEST ? "…" : "") + '"';
  }

  /** The first few, and how many there are besides. */
  static String few(Collection<String> names) {
    if (names.isEmpty()) {
      return "nothing";
    }
    return names.stream().limit(MOST).map(Messages::quote).collect(Collectors.joining(", "))
        + (names.size() > MOST ? " and " + (names.size() - MOST) + " more" : "");
  }
}
