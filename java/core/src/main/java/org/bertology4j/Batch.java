package org.bertology4j;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Sequences of token ids, packed one behind the other without padding, and what is to be predicted
 * for them. Immutable.
 *
 * <p>Ids include the special tokens that the model expects, such as {@code [CLS]} and {@code
 * [SEP]}.
 */
public final class Batch {
  /** Label of a token that does not count in {@link Loss#MASKED_LM} and {@link Loss#CAUSAL_LM}. */
  public static final int IGNORED_LABEL = -100;

  /** The loss of an example. */
  public enum Loss {
    /** No labels: no losses, no gradients. */
    NONE,
    /** Cross entropy of the classifier's outputs against a label. */
    CLASSIFICATION,
    /** Squared error of the classifier's only output against a target. */
    REGRESSION,
    /** Mean cross entropy of the masked language model over the tokens with a label. */
    MASKED_LM,
    /**
     * Mean cross entropy of a GPT over the tokens with a label, each predicted from those before
     * it; the first token of an example is predicted by none.
     */
    CAUSAL_LM
  }

  private final long[] offsets;
  private final int[] inputIds;
  private final int[] tokenTypeIds;
  private final Loss loss;
  private final int[] labels;
  private final float[] targets;

  private Batch(
      long[] offsets,
      int[] inputIds,
      int[] tokenTypeIds,
      Loss loss,
      int[] labels,
      float[] targets) {
    this.offsets = offsets;
    this.inputIds = inputIds;
    this.tokenTypeIds = tokenTypeIds;
    this.loss = loss;
    this.labels = labels;
    this.targets = targets;
  }

  /** Sequences of token ids, all of token type 0. */
  public static Batch of(int[]... sequences) {
    Builder builder = new Builder();
    for (int[] sequence : sequences) {
      builder.add(sequence);
    }
    return builder.build();
  }

  /**
   * Sequences that were filled up to one length, on either side, without what fills them. All are
   * of token type 0.
   *
   * @param attentionMask 1 for each token of a sequence, 0 for what fills it up
   */
  public static Batch ofPadded(int[][] inputIds, int[][] attentionMask) {
    BertologyException.check(
        inputIds.length == attentionMask.length,
        "attention masks of %d sequences for %d examples",
        attentionMask.length,
        inputIds.length);
    Builder builder = new Builder();
    for (int b = 0; b < inputIds.length; b++) {
      builder.addPadded(inputIds[b], new int[inputIds[b].length], attentionMask[b]);
    }
    return builder.build();
  }

  /** A builder to which sequences are added. */
  public static Builder builder() {
    return new Builder();
  }

  /** Collects sequences. */
  public static final class Builder {
    private final List<int[]> ids = new ArrayList<>();
    private final List<int[]> types = new ArrayList<>();

    private Builder() {}

    /** Adds a sequence of token ids, all of token type 0. */
    public Builder add(int[] inputIds) {
      return add(inputIds, new int[inputIds.length]);
    }

    /** Adds a sequence of token ids, with the token type (segment) of each. */
    public Builder add(int[] inputIds, int[] tokenTypeIds) {
      BertologyException.check(inputIds.length > 0, "example %d has no tokens", ids.size());
      BertologyException.check(
          inputIds.length == tokenTypeIds.length,
          "example %d has %d input ids and %d token type ids",
          ids.size(),
          inputIds.length,
          tokenTypeIds.length);
      ids.add(inputIds);
      types.add(tokenTypeIds);
      return this;
    }

    /**
     * Adds a sequence without what fills it up at its start or end.
     *
     * @param attentionMask 1 for each token of the sequence, 0 for what fills it up
     */
    public Builder addPadded(int[] inputIds, int[] tokenTypeIds, int[] attentionMask) {
      BertologyException.check(
          inputIds.length == tokenTypeIds.length && inputIds.length == attentionMask.length,
          "example %d has %d input ids, %d token type ids and an attention mask of %d",
          ids.size(),
          inputIds.length,
          tokenTypeIds.length,
          attentionMask.length);
      int start = 0;
      while (start < attentionMask.length && attentionMask[start] == 0) {
        start++;
      }
      int end = start;
      while (end < attentionMask.length && attentionMask[end] == 1) {
        end++;
      }
      for (int i = end; i < attentionMask.length; i++) {
        BertologyException.check(
            attentionMask[i] == 0,
            "example %d has the attention mask %s, expected ones with zeros only around them",
            ids.size(),
            Arrays.toString(attentionMask));
      }
      return add(
          Arrays.copyOfRange(inputIds, start, end), Arrays.copyOfRange(tokenTypeIds, start, end));
    }

    /** The batch of the sequences added so far, without labels. */
    public Batch build() {
      BertologyException.check(!ids.isEmpty(), "a batch needs at least one example");
      long[] offsets = new long[ids.size() + 1];
      for (int b = 0; b < ids.size(); b++) {
        offsets[b + 1] = offsets[b] + ids.get(b).length;
      }
      BertologyException.check(
          offsets[ids.size()] <= Integer.MAX_VALUE - 8,
          "a batch of %d tokens is too large",
          offsets[ids.size()]);
      return new Batch(offsets, pack(ids), pack(types), Loss.NONE, new int[0], new float[0]);
    }
  }

  private static int[] pack(List<int[]> sequences) {
    return sequences.stream().flatMapToInt(Arrays::stream).toArray();
  }

  /** The same sequences with the class of each, for {@link Loss#CLASSIFICATION}. */
  public Batch withLabels(int... classes) {
    BertologyException.check(
        classes.length == examples(), "%d labels for %d examples", classes.length, examples());
    return new Batch(
        offsets, inputIds, tokenTypeIds, Loss.CLASSIFICATION, classes.clone(), new float[0]);
  }

  /** The same sequences with the number to predict for each, for {@link Loss#REGRESSION}. */
  public Batch withTargets(float... numbers) {
    BertologyException.check(
        numbers.length == examples(), "%d targets for %d examples", numbers.length, examples());
    return new Batch(offsets, inputIds, tokenTypeIds, Loss.REGRESSION, new int[0], numbers.clone());
  }

  /**
   * The same sequences with the token to predict at each place, {@link #IGNORED_LABEL} where none
   * is, for {@link Loss#MASKED_LM}.
   */
  public Batch withTokenLabels(int[]... tokenLabels) {
    return withTokenLabels(Loss.MASKED_LM, tokenLabels);
  }

  /** The same sequences with every token but the first to predict, for {@link Loss#CAUSAL_LM}. */
  public Batch withNextTokens() {
    return new Batch(offsets, inputIds, tokenTypeIds, Loss.CAUSAL_LM, inputIds, new float[0]);
  }

  /**
   * The same sequences with the tokens to predict, for {@link Loss#CAUSAL_LM}: as the input ids,
   * with {@link #IGNORED_LABEL} for tokens that do not count, such as those of a prompt.
   */
  public Batch withNextTokens(int[]... tokenLabels) {
    return withTokenLabels(Loss.CAUSAL_LM, tokenLabels);
  }

  private Batch withTokenLabels(Loss kind, int[]... tokenLabels) {
    BertologyException.check(
        tokenLabels.length == examples(),
        "labels of %d sequences for %d examples",
        tokenLabels.length,
        examples());
    for (int b = 0; b < tokenLabels.length; b++) {
      BertologyException.check(
          tokenLabels[b].length == length(b),
          "example %d has %d token labels and %d tokens",
          b,
          tokenLabels[b].length,
          length(b));
    }
    return new Batch(
        offsets, inputIds, tokenTypeIds, kind, pack(Arrays.asList(tokenLabels)), new float[0]);
  }

  /** Number of sequences. */
  public int examples() {
    return offsets.length - 1;
  }

  /** Number of tokens of all sequences. */
  public int tokens() {
    return inputIds.length;
  }

  /** Number of tokens of a sequence. */
  public int length(int example) {
    return (int) (offsets[example + 1] - offsets[example]);
  }

  /** Number of tokens of the longest sequence. */
  public int longest() {
    int most = 0;
    for (int b = 0; b < examples(); b++) {
      most = Math.max(most, length(b));
    }
    return most;
  }

  /** The token ids of a sequence. */
  public int[] inputIds(int example) {
    return slice(inputIds, example);
  }

  /** The token types of a sequence. */
  public int[] tokenTypeIds(int example) {
    return slice(tokenTypeIds, example);
  }

  /** The token labels of a sequence. */
  public int[] tokenLabels(int example) {
    BertologyException.check(predictsTokens(), "the batch has no token labels");
    return slice(labels, example);
  }

  /** Whether the loss is that of a language model. */
  public boolean predictsTokens() {
    return loss == Loss.MASKED_LM || loss == Loss.CAUSAL_LM;
  }

  /** Number of tokens that count in a sequence's loss as a language model's. */
  public int predictedTokens(int example) {
    BertologyException.check(predictsTokens(), "the batch has no token labels");
    int count = 0;
    int first = loss == Loss.CAUSAL_LM ? 1 : 0;
    for (long i = offsets[example] + first; i < offsets[example + 1]; i++) {
      count += labels[(int) i] == IGNORED_LABEL ? 0 : 1;
    }
    return count;
  }

  private int[] slice(int[] packed, int example) {
    return Arrays.copyOfRange(packed, (int) offsets[example], (int) offsets[example + 1]);
  }

  /** The loss that the labels are for. */
  public Loss loss() {
    return loss;
  }

  /** The class of a sequence. */
  public int label(int example) {
    BertologyException.check(loss == Loss.CLASSIFICATION, "the batch has no class labels");
    return labels[example];
  }

  /** The number to predict for a sequence. */
  public float target(int example) {
    BertologyException.check(loss == Loss.REGRESSION, "the batch has no targets");
    return targets[example];
  }

  // What the native side reads: the arrays themselves, not to be changed.

  long[] offsetsArray() {
    return offsets;
  }

  int[] inputIdsArray() {
    return inputIds;
  }

  int[] tokenTypeIdsArray() {
    return tokenTypeIds;
  }

  int[] labelsArray() {
    return labels;
  }

  float[] targetsArray() {
    return targets;
  }
}
