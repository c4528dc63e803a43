package org.bertology4j;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/**
 * What a model's score is without a head, or with only one head of a layer: the ablations of
 * Michel, Levy and Neubig 2019 (tables 1 to 3), all of them in one sweep.
 */
public final class HeadAblation {
  /** Which heads are masked. */
  public enum Kind {
    /** One head of the model. */
    SINGLE_HEAD,
    /** All heads of a layer but one. */
    ALL_BUT_ONE
  }

  private HeadAblation() {}

  /**
   * What was measured.
   *
   * @param whole the score of the model as it is
   * @param scores that without the head, or with it alone in its layer; NaN for heads that are
   *     pruned or that the model's own mask leaves out
   * @param higherIsBetter whether more of the score is better
   */
  public record Result(Kind kind, double whole, HeadScores scores, boolean higherIsBetter) {
    /** {@code scores - whole}: what masking changes. */
    public HeadScores changes() {
      double[][] changes = scores.toArray();
      for (double[] layer : changes) {
        for (int h = 0; h < layer.length; h++) {
          layer[h] -= whole;
        }
      }
      return HeadScores.of(changes);
    }

    /**
     * Of each layer that has one the head of the best score, the first of equally good ones. With
     * {@link Kind#ALL_BUT_ONE}, the head that may stay.
     */
    public List<Heads.Head> best() {
      Comparator<Heads.Head> order =
          Comparator.comparingDouble(head -> scores.get(head.layer(), head.head()));
      List<Heads.Head> best = new ArrayList<>();
      for (int layer = 0; layer < scores.layers(); layer++) {
        int l = layer;
        scores.ascending().stream()
            .filter(head -> head.layer() == l)
            .sorted()
            .max(
                (higherIsBetter ? order : order.reversed())
                    .thenComparing(Comparator.reverseOrder()))
            .ifPresent(best::add);
      }
      return List.copyOf(best);
    }
  }

  /** Measures every head that the model has and does not mask itself. */
  public static Result measure(MaskSweep sweep, Kind kind) {
    HeadMask own = sweep.model().headMask();
    List<Heads.Head> heads = counting(sweep.model());
    List<HeadMask> masks = new ArrayList<>(List.of(own));
    for (Heads.Head head : heads) {
      masks.add(
          switch (kind) {
            case SINGLE_HEAD -> own.with(head.layer(), head.head(), 0f);
            case ALL_BUT_ONE -> alone(own, head, heads);
          });
    }
    double[] scores = sweep.scores(masks);
    double[][] byHead = empty(own);
    for (int i = 0; i < heads.size(); i++) {
      byHead[heads.get(i).layer()][heads.get(i).head()] = scores[i + 1];
    }
    return new Result(kind, scores[0], HeadScores.of(byHead), sweep.scorer().higherIsBetter());
  }

  private static HeadMask alone(HeadMask own, Heads.Head head, List<Heads.Head> heads) {
    HeadMask mask = own;
    for (Heads.Head other : heads) {
      if (other.layer() == head.layer() && other.head() != head.head()) {
        mask = mask.with(other.layer(), other.head(), 0f);
      }
    }
    return mask;
  }

  /** The heads that a model has and does not mask. */
  static List<Heads.Head> counting(Model model) {
    HeadMask own = model.headMask();
    List<Heads.Head> heads = new ArrayList<>();
    for (int l = 0; l < own.layers(); l++) {
      for (int head : model.heads(l)) {
        if (own.get(l, head) != 0f) {
          heads.add(new Heads.Head(l, head));
        }
      }
    }
    return List.copyOf(heads);
  }

  /** Room for a number for each head, NaN so far. */
  static double[][] empty(HeadMask shape) {
    double[][] numbers = new double[shape.layers()][shape.heads()];
    for (double[] layer : numbers) {
      Arrays.fill(layer, Double.NaN);
    }
    return numbers;
  }
}
