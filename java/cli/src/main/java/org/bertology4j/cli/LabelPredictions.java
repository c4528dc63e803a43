package org.bertology4j.cli;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.DoubleStream;
import org.bertology4j.Activations;
import org.bertology4j.Capture;
import org.bertology4j.FloatTensor;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.Labels;
import org.bertology4j.text.Metric;

/**
 * What a classifier predicts for each example of a data set: a class, or for regression a number.
 *
 * @param data the whole of it, one example behind the other
 * @param metrics by the names of the scores
 */
record LabelPredictions(Dataset data, Map<String, Metric> metrics) implements Predictions {

  @Override
  public List<Capture> captures() {
    return List.of(Capture.LOGITS);
  }

  @Override
  public double[] read(Activations run) {
    FloatTensor logits = run.logits();
    double[] predicted = new double[run.batch().examples()];
    for (int b = 0; b < predicted.length; b++) {
      predicted[b] = classes() ? bestClass(logits, b) : logits.get(b, 0);
    }
    return predicted;
  }

  private boolean classes() {
    return data.labels().kind() == Labels.Kind.CLASSES;
  }

  private static int bestClass(FloatTensor logits, int example) {
    int best = 0;
    for (int c = 1; c < logits.size(1); c++) {
      if (logits.get(example, c) > logits.get(example, best)) {
        best = c;
      }
    }
    return best;
  }

  @Override
  public Map<String, Double> scores(List<double[]> runs) {
    double[] predicted = runs.stream().flatMapToDouble(DoubleStream::of).toArray();
    Map<String, Double> scores = new TreeMap<>();
    metrics.forEach((name, metric) -> scores.put(name, score(metric, predicted)));
    return scores;
  }

  private double score(Metric metric, double[] predicted) {
    return classes()
        ? metric.measure(
            DoubleStream.of(predicted).mapToInt(x -> (int) x).toArray(), data.classes())
        : metric.measure(predicted, data.targets());
  }
}
