package org.bertology4j;

import java.util.List;
import java.util.function.Consumer;

/**
 * How well a language model predicts tokens: the masked ones of a BERT, the next ones of a GPT.
 * Over all tokens that count, so that long texts weigh more than short ones. Immutable.
 *
 * @param tokens how many tokens were predicted
 * @param meanLoss the mean of -ln p over them, in nats
 * @param accuracy the part of them that the model thought the most probable
 */
public record LanguageModelScore(long tokens, double meanLoss, double accuracy) {

  /** {@code exp(meanLoss)}. */
  public double perplexity() {
    return Math.exp(meanLoss);
  }

  /** Scores a model over batches that have token labels, under its own head mask. */
  public static LanguageModelScore measure(Model model, Iterable<Batch> batches) {
    return measure(model, batches, model.headMask());
  }

  /** Scores a model over batches that have token labels, under a head mask. */
  public static LanguageModelScore measure(Model model, Iterable<Batch> batches, HeadMask mask) {
    Accumulator accumulator = new Accumulator();
    RunOptions options =
        RunOptions.capturing(Accumulator.CAPTURES.toArray(new Capture[0])).headMask(mask);
    for (Batch batch : batches) {
      try (Activations run = model.run(batch, options)) {
        accumulator.accept(run);
      }
    }
    return accumulator.result();
  }

  /** Collects the predictions of runs, for example beside {@link HeadImportance#measure}. */
  public static final class Accumulator implements Consumer<Activations> {
    /** What a run that is added must have captured. */
    public static final List<Capture> CAPTURES = List.of(Capture.LOSS, Capture.TOKEN_PREDICTIONS);

    private long tokens;
    private long right;
    private double loss;

    /** Adds a run. */
    @Override
    public void accept(Activations run) {
      Batch batch = run.batch();
      float[] losses = run.loss().toArray();
      int shift = batch.loss() == Batch.Loss.CAUSAL_LM ? 1 : 0;
      for (int b = 0; b < batch.examples(); b++) {
        int predicted = batch.predictedTokens(b);
        tokens += predicted;
        loss += (double) losses[b] * predicted;
        float[] predictions = run.tokenPredictions(b).toArray();
        int[] labels = batch.tokenLabels(b);
        for (int i = shift; i < labels.length; i++) {
          // Of an ignored label none is right: no prediction is negative.
          right += (int) predictions[i - shift] == labels[i] ? 1 : 0;
        }
      }
    }

    /** The score of the runs so far. */
    public LanguageModelScore result() {
      BertologyException.check(tokens > 0, "a score needs at least one predicted token");
      return new LanguageModelScore(tokens, loss / tokens, (double) right / tokens);
    }
  }
}
