package org.bertology4j.text;

import java.util.List;

/**
 * A text, or a pair of texts, as tokens. Immutable.
 *
 * <p>Tokens that the tokenizer adds, such as {@code [CLS]} and {@code [SEP]}, are of no text, of no
 * word and at no place: they have -1 there.
 */
public final class Encoding {
  private final int[] ids;
  private final int[] tokenTypeIds;
  private final List<String> tokens;
  private final int[] textIds;
  private final int[] wordIds;
  private final int[] starts;
  private final int[] ends;
  private final boolean truncated;

  Encoding(
      int[] ids,
      int[] tokenTypeIds,
      List<String> tokens,
      int[] textIds,
      int[] wordIds,
      int[] starts,
      int[] ends,
      boolean truncated) {
    this.ids = ids;
    this.tokenTypeIds = tokenTypeIds;
    this.tokens = tokens;
    this.textIds = textIds;
    this.wordIds = wordIds;
    this.starts = starts;
    this.ends = ends;
    this.truncated = truncated;
  }

  /** Number of tokens. */
  public int length() {
    return ids.length;
  }

  /** The id of each token. */
  public int[] ids() {
    return ids.clone();
  }

  /** The type (segment) of each token. */
  public int[] tokenTypeIds() {
    return tokenTypeIds.clone();
  }

  /** The tokens, as the vocabulary has them. */
  public List<String> tokens() {
    return tokens;
  }

  /** Which text each token is of: 0 for the first, 1 for the second, -1 for neither. */
  public int[] textIds() {
    return textIds.clone();
  }

  /**
   * Which word of its text each token is of, from 0. Words are what the tokenizer splits into
   * pieces: for BERT, punctuation marks are words of their own.
   */
  public int[] wordIds() {
    return wordIds.clone();
  }

  /** Where each token starts in its text, as an index into the string. */
  public int[] starts() {
    return starts.clone();
  }

  /** Where each token ends in its text: the index behind its last character. */
  public int[] ends() {
    return ends.clone();
  }

  /** Whether tokens were cut off because there were too many. */
  public boolean truncated() {
    return truncated;
  }

  /** The tokens, with spaces between them. */
  @Override
  public String toString() {
    return String.join(" ", tokens);
  }
}
