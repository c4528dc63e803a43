package org.bertology4j;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.function.DoubleUnaryOperator;

/**
 * A number for each head, [layers, heads]; heads that were pruned or masked have none (NaN) and
 * take no part in normalisation or order. Immutable.
 */
public final class HeadScores {
  /**
   * Added to a layer's length before division, as run_bertology.py does, so that a layer of zeros
   * stays zero.
   */
  private static final double TINY = 1e-20;

  private final double[][] scores;

  private HeadScores(double[][] scores) {
    this.scores = scores;
  }

  /** These scores, by layer and head; NaN for heads without one. */
  public static HeadScores of(double[][] byLayer) {
    BertologyException.check(
        byLayer.length > 0 && byLayer[0].length > 0, "head scores need layers and heads");
    for (double[] layer : byLayer) {
      BertologyException.check(
          layer.length == byLayer[0].length,
          "head scores: layers of %d and %d heads",
          byLayer[0].length,
          layer.length);
    }
    return new HeadScores(copy(byLayer));
  }

  /** Number of layers. */
  public int layers() {
    return scores.length;
  }

  /** Number of heads of each layer, scored or not. */
  public int heads() {
    return scores[0].length;
  }

  /** The score of a head; NaN if it has none. */
  public double get(int layer, int head) {
    return scores[layer][head];
  }

  /** Whether a head has a score. */
  public boolean has(int layer, int head) {
    return !Double.isNaN(scores[layer][head]);
  }

  /** Each layer divided by its Euclidean length, as Michel et al. 2019 do. */
  public HeadScores normalizedByLayer() {
    double[][] result = copy(scores);
    for (double[] layer : result) {
      double length =
          Math.sqrt(Arrays.stream(layer).filter(x -> !Double.isNaN(x)).map(x -> x * x).sum());
      apply(layer, x -> x / (length + TINY));
    }
    return new HeadScores(result);
  }

  /** Shifted and scaled so that the least is 0 and the greatest 1; all 0 if they are equal. */
  public HeadScores normalizedGlobally() {
    List<Heads.Head> order = ascending();
    if (order.isEmpty()) {
      return this;
    }
    double least = at(order.get(0));
    double range = at(order.get(order.size() - 1)) - least;
    double[][] result = copy(scores);
    for (double[] layer : result) {
      // What has no score, NaN, must not get one: 0 / 1 is 0, but NaN / 1 is NaN.
      apply(layer, x -> (x - least) / (range == 0 ? 1 : range));
    }
    return new HeadScores(result);
  }

  private static void apply(double[] layer, DoubleUnaryOperator function) {
    for (int h = 0; h < layer.length; h++) {
      layer[h] = function.applyAsDouble(layer[h]);
    }
  }

  private double at(Heads.Head head) {
    return scores[head.layer()][head.head()];
  }

  /** The heads with a score, from the least to the greatest; equal ones by layer, then by head. */
  public List<Heads.Head> ascending() {
    List<Heads.Head> order = new ArrayList<>();
    for (int l = 0; l < layers(); l++) {
      for (int h = 0; h < heads(); h++) {
        if (has(l, h)) {
          order.add(new Heads.Head(l, h));
        }
      }
    }
    order.sort(Comparator.comparingDouble(this::at).thenComparing(Comparator.naturalOrder()));
    return List.copyOf(order);
  }

  /** Ranks, 0 for the greatest score; -1 for heads without one. */
  public int[][] ranks() {
    int[][] ranks = new int[layers()][heads()];
    for (int[] layer : ranks) {
      Arrays.fill(layer, -1);
    }
    List<Heads.Head> order = ascending();
    for (int i = 0; i < order.size(); i++) {
      ranks[order.get(i).layer()][order.get(i).head()] = order.size() - 1 - i;
    }
    return ranks;
  }

  /** A plan that removes heads in ascending order of these scores. */
  public PruningPlan plan() {
    return PruningPlan.inOrder(ascending());
  }

  /** A copy of the scores, by layer and head. */
  public double[][] toArray() {
    return copy(scores);
  }

  private static double[][] copy(double[][] rows) {
    return Arrays.stream(rows).map(double[]::clone).toArray(double[][]::new);
  }

  @Override
  public String toString() {
    return Arrays.deepToString(scores);
  }
}
