package org.bertology4j;

import java.util.List;
import java.util.function.Function;

/**
 * The mean of a number.
 *
 * @param totals the sum of the number over a batch, and how many it is of
 */
record MeanScorer(
    String name,
    boolean higherIsBetter,
    List<Capture> captures,
    Function<Activations, double[]> totals)
    implements MaskScorer {

  @Override
  public double[] read(Activations run) {
    return totals.apply(run);
  }

  @Override
  public double score(List<double[]> batches) {
    double sum = 0;
    double count = 0;
    for (double[] batch : batches) {
      sum += batch[0];
      count += batch[1];
    }
    return sum / count;
  }

  static double[] losses(Activations run) {
    Batch batch = run.batch();
    float[] losses = run.loss().toArray();
    double sum = 0;
    double count = 0;
    for (int b = 0; b < losses.length; b++) {
      double weight = batch.predictsTokens() ? batch.predictedTokens(b) : 1;
      sum += weight * losses[b];
      count += weight;
    }
    return new double[] {sum, count};
  }

  static double[] rightClasses(Activations run) {
    Batch batch = run.batch();
    FloatTensor logits = run.logits();
    int right = 0;
    for (int b = 0; b < batch.examples(); b++) {
      int best = 0;
      for (int c = 1; c < logits.size(1); c++) {
        best = logits.get(b, c) > logits.get(b, best) ? c : best;
      }
      right += best == batch.label(b) ? 1 : 0;
    }
    return new double[] {right, batch.examples()};
  }
}
