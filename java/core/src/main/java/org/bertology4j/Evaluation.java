package org.bertology4j;

/**
 * A model's score on a task and the importance of its heads, from one pass over a data set.
 *
 * @param score the metric; greater is better
 * @param importance of the heads that are neither pruned nor masked
 */
public record Evaluation(double score, HeadScores importance) {

  /** Evaluates a model under a head mask. */
  @FunctionalInterface
  public interface Evaluator {
    /** One pass over the data set. */
    Evaluation evaluate(HeadMask mask);
  }
}
