package org.bertology4j.benchmarks;

import java.util.List;
import org.bertology4j.Batch;
import org.bertology4j.Model;
import org.bertology4j.cli.RandomTexts;

/**
 * Which texts a model is given: so many of one length, or as long as those of MRPC.
 *
 * @param length tokens of each; 0 for those of MRPC
 */
public record Texts(int count, int length) {
  /** What stands for the lengths of MRPC where lengths are named. */
  public static final String MIXED = "mixed";

  /** As long as those of MRPC. */
  public static Texts likeMrpc(int count) {
    return new Texts(count, 0);
  }

  /** Of a length that is a number, or {@link #MIXED}. */
  public static Texts of(int count, String length) {
    return length.equals(MIXED) ? likeMrpc(count) : new Texts(count, Integer.parseInt(length));
  }

  /** Their token ids. */
  public List<int[]> ids(Model model) {
    int vocabulary = model.config().vocabSize();
    return length == 0
        ? RandomTexts.asLongAsMrpc(count, vocabulary)
        : RandomTexts.ofLength(length, count, vocabulary);
  }

  /** With labels: of causal models the next tokens, of others two classes. */
  public Batch batch(Model model) {
    Batch batch = Batch.of(ids(model).toArray(new int[0][]));
    return model.config().architecture().isCausal()
        ? batch.withNextTokens()
        : batch.withLabels(RandomTexts.labels(count));
  }

  @Override
  public String toString() {
    return count + " × " + (length == 0 ? "50 tokens on average" : length + " tokens");
  }
}
