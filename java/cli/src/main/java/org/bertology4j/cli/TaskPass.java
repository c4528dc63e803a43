package org.bertology4j.cli;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.bertology4j.Activations;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.FloatTensor;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadMask;
import org.bertology4j.Model;
import org.bertology4j.RunOptions;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.Labels;
import org.bertology4j.text.Metric;

/** Passes of a model over a labelled data set: its scores, and the importance of its heads. */
final class TaskPass {
  private final Model model;
  private final Dataset data;
  private final List<Batch> batches;

  TaskPass(Model model, Dataset data, List<Batch> batches) {
    this.model = model;
    this.data = data;
    this.batches = batches;
  }

  /** What a model predicted for each example. */
  final class Predictions {
    private final List<Integer> classes = new ArrayList<>();
    private final List<Double> numbers = new ArrayList<>();

    void add(Activations run) {
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

    double score(Metric metric) {
      return metric.kind() == Labels.Kind.CLASSES
          ? metric.measure(classes.stream().mapToInt(Integer::intValue).toArray(), data.classes())
          : metric.measure(
              numbers.stream().mapToDouble(Double::doubleValue).toArray(), data.targets());
    }

    Map<String, Double> scores(Map<String, Metric> metrics) {
      Map<String, Double> scores = new TreeMap<>();
      metrics.forEach((name, metric) -> scores.put(name, score(metric)));
      return scores;
    }
  }

  /** Importance and predictions of one pass. */
  record Result(HeadImportance importance, Predictions predictions) {}

  /** A pass with gradients, under the model's own mask. */
  Result measure(String title, HeadImportance.Accumulator accumulator) {
    Predictions predictions = new Predictions();
    HeadImportance importance =
        HeadImportance.measure(
            model, Progress.over(title, batches), accumulator, predictions::add, Capture.LOGITS);
    return new Result(importance, predictions);
  }

  /** A forward pass. */
  Predictions predict(String title, HeadMask mask) {
    Predictions predictions = new Predictions();
    RunOptions options = RunOptions.capturing(Capture.LOGITS).headMask(mask);
    for (Batch batch : Progress.over(title, batches)) {
      try (Activations run = model.run(batch, options)) {
        predictions.add(run);
      }
    }
    return predictions;
  }

  /**
   * Examples a second of forward passes under the model's own mask: the median of some passes over
   * the first batches, after one that does not count.
   */
  double examplesPerSecond() {
    final int passes = 5;
    final int enough = 4096;
    List<Batch> some = new ArrayList<>();
    long tokens = 0;
    long examples = 0;
    for (Batch batch : batches) {
      if (tokens >= enough) {
        break;
      }
      some.add(batch);
      tokens += batch.tokens();
      examples += batch.examples();
    }
    double[] seconds = new double[passes];
    for (int pass = -1; pass < passes; pass++) {
      long start = System.nanoTime();
      for (Batch batch : some) {
        model.run(batch, Capture.LOGITS).close();
      }
      if (pass >= 0) {
        seconds[pass] = (System.nanoTime() - start) * 1e-9;
      }
    }
    java.util.Arrays.sort(seconds);
    return examples / seconds[passes / 2];
  }
}
