package org.bertology4j.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.function.Supplier;
import org.bertology4j.Batch;
import org.bertology4j.text.Documents;

/**
 * Data and how a model's predictions for it are scored.
 *
 * @param source the folder or file of the data
 * @param data what it is like
 * @param metricName of the score that counts
 * @param higherIsBetter whether more of it is better
 * @param predictions collects those of a pass
 */
record Task(
    String name,
    Path source,
    String data,
    String metricName,
    boolean higherIsBetter,
    List<Batch> batches,
    Supplier<TaskPass.Predictions> predictions) {
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
        TokenPredictions::new);
  }

  /** A score of the metric that counts, such that more is better; the same again turns it back. */
  double oriented(double score) {
    return higherIsBetter ? score : -score;
  }
}
