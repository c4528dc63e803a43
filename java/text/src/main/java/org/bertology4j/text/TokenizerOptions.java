package org.bertology4j.text;

import java.util.Optional;
import java.util.OptionalInt;
import org.bertology4j.BertologyException;

/** What a tokenizer is told on top of, or against, what its files say. Immutable. */
public final class TokenizerOptions {
  private final OptionalInt maxLength;
  private final Optional<Boolean> lowercase;
  private final Optional<Boolean> stripAccents;
  private final Optional<Boolean> splitChinese;

  private TokenizerOptions(Builder builder) {
    maxLength = builder.maxLength;
    lowercase = builder.lowercase;
    stripAccents = builder.stripAccents;
    splitChinese = builder.splitChinese;
  }

  /** Everything as the files say. */
  public static TokenizerOptions defaults() {
    return builder().build();
  }

  /** A builder with {@link #defaults()}. */
  public static Builder builder() {
    return new Builder();
  }

  /** Collects options. */
  public static final class Builder {
    private OptionalInt maxLength = OptionalInt.empty();
    private Optional<Boolean> lowercase = Optional.empty();
    private Optional<Boolean> stripAccents = Optional.empty();
    private Optional<Boolean> splitChinese = Optional.empty();

    private Builder() {}

    /**
     * The most tokens of an example, special tokens included; what is longer is cut. Never more
     * than the {@code max_position_embeddings} of a config.json beside the tokenizer.
     */
    public Builder maxLength(int tokens) {
      BertologyException.check(tokens > 0, "maxLength is %d, expected more than 0", tokens);
      maxLength = OptionalInt.of(tokens);
      return this;
    }

    /** Whether text is lower-cased: {@code do_lower_case}. */
    public Builder lowercase(boolean wanted) {
      lowercase = Optional.of(wanted);
      return this;
    }

    /** Whether accents are dropped: {@code strip_accents}; if nobody says, as lower-casing. */
    public Builder stripAccents(boolean wanted) {
      stripAccents = Optional.of(wanted);
      return this;
    }

    /** Whether each Chinese character is a word: {@code tokenize_chinese_chars}. */
    public Builder splitChinese(boolean wanted) {
      splitChinese = Optional.of(wanted);
      return this;
    }

    /** The options. */
    public TokenizerOptions build() {
      return new TokenizerOptions(this);
    }
  }

  /** The most tokens of an example, if it was said. */
  public OptionalInt maxLength() {
    return maxLength;
  }

  /** Whether text is lower-cased, if it was said. */
  public Optional<Boolean> lowercase() {
    return lowercase;
  }

  /** Whether accents are dropped, if it was said. */
  public Optional<Boolean> stripAccents() {
    return stripAccents;
  }

  /** Whether each Chinese character is a word, if it was said. */
  public Optional<Boolean> splitChinese() {
    return splitChinese;
  }
}
