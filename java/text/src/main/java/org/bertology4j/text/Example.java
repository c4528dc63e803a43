package org.bertology4j.text;

import java.util.Objects;
import java.util.Optional;

/**
 * A text, or a pair of texts, and what it is labelled with: the name of a class, or a number as
 * text.
 */
public record Example(TextPair text, Optional<String> label) {
  /** Checks that nothing is null. */
  public Example {
    Objects.requireNonNull(text, "text");
    Objects.requireNonNull(label, "label");
  }
}
