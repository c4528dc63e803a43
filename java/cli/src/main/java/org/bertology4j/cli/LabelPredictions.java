package org.bertology4j.cli;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.bertology4j.Activations;
import org.bertology4j.Capture;
import org.bertology4j.FloatTensor;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.Labels;
import org.bertology4j.text.Metric;

/** What a classifier predicted for each example of a data set. */
final class LabelPredictions implements TaskPass.Predictions {
  private final Dataset data;
  private final Map<String, Metric> metrics;
  private final List<Integer> classes = new ArrayList<>();
  private final List<Double> numbers = new ArrayList<>();

  /**
   * None yet.
   *
   * @param metrics by the names of the scores
   */
  LabelPredictions(Dataset data, Map<String, Metric> metrics) {
    this.data = data;
    this.metrics = metrics;
  }

  @Override
  public List<Capture> captures() {
    return List.of(Capture.LOGITS);
  }

  @Override
  public void add(Activations run) {
    FloatTensor logits = run.logits();
    for (int b = 0; b < run.batch().examples(); b++) {
      int best = 0;
      for (int c = 1; c < logits.size(1); c++) {
        if (logits.get(b, c) > logits.get(b, best)) {
          best = c;
        }
      }
      classes.add(best);
      numbers.add((double) logits.get(b, 0));
    }
  }

  @Override
  public Map<String, Double> scores() {
    Map<String, Double> scores = new TreeMap<>();
    metrics.forEach((name, metric) -> scores.put(name, score(metric)));
    return scores;
  }

  private double score(Metric metric) {
    return metric.kind() == Labels.Kind.CLASSES
        ? metric.measure(classes.stream().mapToInt(Integer::intValue).toArray(), data.classes())
        : metric.measure(
            numbers.stream().mapToDouble(Double::doubleValue).toArray(), data.targets());
  }
}
