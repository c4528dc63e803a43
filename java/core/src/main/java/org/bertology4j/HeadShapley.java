package org.bertology4j;

import java.util.ArrayList;
import java.util.List;
import java.util.OptionalDouble;
import java.util.function.IntConsumer;
import org.bertology4j.internal.TorchRandom;

/**
 * Shapley values of heads (Held and Yang 2023): with v the score of a set of heads, the others
 * masked, φ_h = E[v(S ∪ h) - v(S)] over the sets S of heads that stand before h in a random order.
 * They are signed, and add up to the score of all heads minus that of none.
 *
 * <p>Estimated by truncated Monte Carlo (Ghorbani and Zou 2019): in each of some random orders the
 * heads are masked one by one, the last of the order first, and what the score loses is that head's
 * part. Where the score has come near that of no heads, the heads that are left have part 0 in that
 * order. Immutable.
 */
public final class HeadShapley {
  /**
   * Masks that are run at once, which share what they can; of these those behind a truncation are
   * wasted.
   */
  private static final int MASKS_AT_ONCE = 24;

  private final int permutations;
  private final long seed;
  private final OptionalDouble tolerance;

  private HeadShapley(int permutations, long seed, OptionalDouble tolerance) {
    this.permutations = permutations;
    this.seed = seed;
    this.tolerance = tolerance;
  }

  /** Values from so many random orders, at least one, with seed 1 and no truncation. */
  public static HeadShapley of(int permutations) {
    BertologyException.check(
        permutations > 0, "%d permutations: at least one is needed", permutations);
    return new HeadShapley(permutations, 1, OptionalDouble.empty());
  }

  /**
   * The same with orders from this seed. Order i is {@code torch.randperm(n,
   * generator=torch.Generator().manual_seed(seed + i))} of the n heads that the model has and does
   * not mask, layer by layer.
   */
  public HeadShapley seed(long first) {
    return new HeadShapley(permutations, first, tolerance);
  }

  /** The same, ending an order where the score is at most this far from that of no heads. */
  public HeadShapley tolerance(double most) {
    BertologyException.check(
        most >= 0 && Double.isFinite(most), "tolerance %s: expected 0 or more", most);
    return new HeadShapley(permutations, seed, OptionalDouble.of(most));
  }

  /**
   * What was measured.
   *
   * @param values the mean of each head's parts, in units of the score; NaN for heads that are
   *     pruned or that the model's own mask leaves out
   * @param standardErrors of these means over the orders; NaN with one order
   * @param permutations how many orders
   * @param truncated how many of them were not followed to their end
   * @param whole the score of the model as it is
   * @param empty the score with all its heads masked
   */
  public record Result(
      HeadScores values,
      HeadScores standardErrors,
      int permutations,
      int truncated,
      double whole,
      double empty) {}

  /** Measures. */
  public Result measure(MaskSweep sweep) {
    return measure(sweep, permutation -> {});
  }

  /**
   * Measures.
   *
   * @param progress is told the number of each order, from 0, before it is followed
   */
  public Result measure(MaskSweep sweep, IntConsumer progress) {
    HeadMask own = sweep.model().headMask();
    List<Heads.Head> heads = HeadAblation.counting(sweep.model());
    HeadMask none = own;
    for (Heads.Head head : heads) {
      none = none.with(head.layer(), head.head(), 0f);
    }
    double[] ends = sweep.scores(List.of(own, none));
    double[] means = new double[heads.size()];
    double[] squares = new double[heads.size()];
    int truncated = 0;
    for (int i = 0; i < permutations; i++) {
      progress.accept(i);
      int[] order = new TorchRandom(seed + i).permutation(heads.size());
      Walk walk = new Walk(sweep, heads, order, ends[0], ends[1]);
      walk.run(own);
      truncated += walk.truncated ? 1 : 0;
      for (int h = 0; h < means.length; h++) {
        // The mean and the squared distances from it, as Welford 1962 adds them up.
        double distance = walk.parts[h] - means[h];
        means[h] += distance / (i + 1);
        squares[h] += distance * (walk.parts[h] - means[h]);
      }
    }
    double[][] values = HeadAblation.empty(own);
    double[][] errors = HeadAblation.empty(own);
    for (int h = 0; h < means.length; h++) {
      Heads.Head head = heads.get(h);
      values[head.layer()][head.head()] = means[h];
      errors[head.layer()][head.head()] =
          permutations < 2 ? Double.NaN : Math.sqrt(squares[h] / (permutations - 1) / permutations);
    }
    return new Result(
        HeadScores.of(values), HeadScores.of(errors), permutations, truncated, ends[0], ends[1]);
  }

  /** One order, from all heads to none. */
  private final class Walk {
    final MaskSweep sweep;
    final List<Heads.Head> heads;
    final int[] order;
    final double empty;
    final double[] parts;
    double score;
    boolean truncated;

    Walk(MaskSweep sweep, List<Heads.Head> heads, int[] order, double whole, double empty) {
      this.sweep = sweep;
      this.heads = heads;
      this.order = order;
      this.empty = empty;
      this.parts = new double[heads.size()];
      this.score = whole;
    }

    void run(HeadMask own) {
      HeadMask mask = own;
      int left = order.length;
      while (left > 1 && !ended()) {
        List<HeadMask> masks = new ArrayList<>();
        for (int i = left - 1; i > 0 && masks.size() < MASKS_AT_ONCE; i--) {
          Heads.Head head = heads.get(order[i]);
          mask = mask.with(head.layer(), head.head(), 0f);
          masks.add(mask);
        }
        double[] scores = sweep.scores(masks);
        for (int i = 0; i < scores.length && !ended(); i++) {
          left--;
          parts[order[left]] = score - scores[i];
          score = scores[i];
        }
      }
      if (left == 1 && !ended()) {
        parts[order[0]] = score - empty; // without it there is none
        return;
      }
      truncated = left > 0;
    }

    /** Whether what is left of the order counts as nothing. */
    boolean ended() {
      return tolerance.isPresent() && Math.abs(score - empty) <= tolerance.getAsDouble();
    }
  }
}
