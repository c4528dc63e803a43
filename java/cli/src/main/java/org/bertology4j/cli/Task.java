package org.bertology4j.cli;

import java.nio.file.Path;
import java.util.List;
import org.bertology4j.Activations;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.MaskScorer;
import org.bertology4j.text.Documents;

/**
 * Data and how a model's predictions for it are scored.
 *
 * @param source the folder or file of the data
 * @param data what it is like
 * @param metricName of the score that counts
 * @param higherIsBetter whether more of it is better
 * @param predictions what counts of the model's
 */
record Task(
    String name,
    Path source,
    String data,
    String metricName,
    boolean higherIsBetter,
    List<Batch> batches,
    Predictions predictions) {
  /** The name of a language model's task. */
  static final String LANGUAGE_MODEL = "lm";

  /**
   * What a language model is to predict is the texts themselves.
   *
   * @param batches of these texts
   */
  static Task ofDocuments(
      Path source, Documents documents, List<Batch> batches, String metricName) {
    return new Task(
        LANGUAGE_MODEL,
        source,
        documents.toString(),
        metricName,
        TokenPredictions.higherIsBetter(metricName),
        batches,
        new TokenPredictions());
  }

  /** The metric that counts, for sweeps over head masks. */
  MaskScorer scorer() {
    return new MetricScorer(metricName, higherIsBetter, predictions);
  }

  /** A score among others. */
  private record MetricScorer(String name, boolean higherIsBetter, Predictions predictions)
      implements MaskScorer {
    @Override
    public List<Capture> captures() {
      return predictions.captures();
    }

    @Override
    public double[] read(Activations run) {
      return predictions.read(run);
    }

    @Override
    public double score(List<double[]> batches) {
      return predictions.scores(batches).get(name);
    }
  }

  /** A score of the metric that counts, such that more is better; the same again turns it back. */
  double oriented(double score) {
    return higherIsBetter ? score : -score;
  }
}
