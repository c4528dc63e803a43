package org.bertology4j;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/**
 * Masks more and more of the least important heads for as long as the score stays above a
 * threshold, ranking the rest anew at each step: the loop of run_bertology.py. Unlike that, it ends
 * when few heads are left, works with scores of any sign, and ranks only heads that still count.
 */
public final class MaskingSearch {
  private final double threshold;
  private final double amount;

  /**
   * A search.
   *
   * @param threshold the part of the original score that must be kept, in (0, 1): 0.9 allows a loss
   *     of a tenth of its size
   * @param amount the part of all heads that is masked at each step, in (0, 1); at least one head
   */
  public MaskingSearch(double threshold, double amount) {
    BertologyException.check(
        threshold > 0 && threshold < 1,
        "masking threshold %s: expected above 0, below 1",
        threshold);
    BertologyException.check(
        amount > 0 && amount < 1, "masking amount %s: expected above 0, below 1", amount);
    this.threshold = threshold;
    this.amount = amount;
  }

  /**
   * A mask that was tried.
   *
   * @param kept whether the score stayed above the threshold
   */
  public record Step(HeadMask mask, double score, boolean kept) {}

  /**
   * What was found.
   *
   * @param originalScore with all heads
   * @param mask the last mask whose score stayed above the threshold
   * @param score its score
   * @param steps all masks that were tried, in order
   */
  public record Result(double originalScore, HeadMask mask, double score, List<Step> steps) {}

  /**
   * Searches.
   *
   * @param start the mask to begin with, usually all ones
   * @param evaluator one pass over the data for a mask
   * @param progress is shown each step
   */
  public Result run(HeadMask start, Evaluation.Evaluator evaluator, Consumer<Step> progress) {
    Evaluation current = evaluator.evaluate(start);
    double original = current.score();
    double least = original - (1 - threshold) * Math.abs(original);
    HeadMask mask = start;
    double score = original;
    List<Step> steps = new ArrayList<>();
    List<Heads.Head> left = left(current.importance(), mask);
    int atOnce = Math.max(1, (int) (amount * left.size()));
    // Masking the last heads would leave nothing to rank and nothing to learn.
    while (left.size() > atOnce) {
      HeadMask next = mask;
      for (Heads.Head head : left.subList(0, atOnce)) {
        next = next.with(head.layer(), head.head(), 0f);
      }
      current = evaluator.evaluate(next);
      Step step = new Step(next, current.score(), current.score() >= least);
      steps.add(step);
      progress.accept(step);
      if (!step.kept()) {
        break;
      }
      mask = next;
      score = current.score();
      left = left(current.importance(), mask);
    }
    return new Result(original, mask, score, List.copyOf(steps));
  }

  /** The heads that can still be masked, ascending, even if the evaluator scores others too. */
  private static List<Heads.Head> left(HeadScores importance, HeadMask mask) {
    return importance.ascending().stream()
        .filter(head -> mask.get(head.layer(), head.head()) != 0f)
        .toList();
  }
}
