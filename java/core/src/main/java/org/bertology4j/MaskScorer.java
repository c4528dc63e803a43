package org.bertology4j;

import java.util.List;

/**
 * What a model is worth under a head mask, from the runs of a data set's batches with it: what of
 * each run counts, and the score that all of them give.
 */
public interface MaskScorer {
  /** Its name; a sweep that is resumed must have the same. */
  String name();

  /** Whether more of it is better. */
  boolean higherIsBetter();

  /** What runs must capture, of what {@link RunOptions#headMasks} allows. */
  List<Capture> captures();

  /** The numbers that count of a batch's run with one mask; as many as it likes. */
  double[] read(Activations run);

  /** The score, from the numbers of all batches, in their order. */
  double score(List<double[]> batches);

  /**
   * The mean loss of an example, in nats; of a language model that of a predicted token, the
   * logarithm of its perplexity. Less is better.
   */
  static MaskScorer meanLoss() {
    return new MeanScorer("mean loss", false, List.of(Capture.LOSS), MeanScorer::losses);
  }

  /** The part of the examples that a classifier takes for what their labels say. */
  static MaskScorer accuracy() {
    return new MeanScorer("accuracy", true, List.of(Capture.LOGITS), MeanScorer::rightClasses);
  }
}
