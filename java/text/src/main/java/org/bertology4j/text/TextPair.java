package org.bertology4j.text;

import java.util.Objects;
import java.util.Optional;

/** What a model reads as one example: a text, or two that belong together. */
public record TextPair(String first, Optional<String> second) {
  /** Checks that nothing is null. */
  public TextPair {
    Objects.requireNonNull(first, "first");
    Objects.requireNonNull(second, "second");
  }

  /** One text. */
  public static TextPair of(String text) {
    return new TextPair(text, Optional.empty());
  }

  /** Two texts. */
  public static TextPair of(String first, String second) {
    return new TextPair(first, Optional.of(second));
  }

  /** Whether there is nothing but white space. */
  public boolean isBlank() {
    return first.isBlank() && second.map(String::isBlank).orElse(true);
  }
}
