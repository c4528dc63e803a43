package org.bertology4j.cli;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.DoubleStream;
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
  // A pass over few tokens is short: it takes many to be sure.
  private static final int ENOUGH_TOKENS = 4096;
  private static final int LEAST_PASSES = 5;
  private static final double ENOUGH_SECONDS = 0.2;
  private static final double WARM_UP_SECONDS = 0.1;

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
    try (Progress<Batch> progress = Progress.over(title, batches)) {
      HeadImportance importance =
          HeadImportance.measure(model, progress, accumulator, predictions::add, Capture.LOGITS);
      return new Result(importance, predictions);
    }
  }

  /** A forward pass. */
  Predictions predict(String title, HeadMask mask) {
    Predictions predictions = new Predictions();
    RunOptions options = RunOptions.capturing(Capture.LOGITS).headMask(mask);
    try (Progress<Batch> progress = Progress.over(title, batches)) {
      for (Batch batch : progress) {
        try (Activations run = model.run(batch, options)) {
          predictions.add(run);
        }
      }
    }
    return predictions;
  }

  /**
   * Examples a second of forward passes under the model's own mask: the median of passes over the
   * first batches, after some that do not count.
   */
  double examplesPerSecond() {
    List<Batch> some = new ArrayList<>();
    long tokens = 0;
    long examples = 0;
    for (Batch batch : batches) {
      if (tokens >= ENOUGH_TOKENS) {
        break;
      }
      some.add(batch);
      tokens += batch.tokens();
      examples += batch.examples();
    }
    passes(some, 1, WARM_UP_SECONDS);
    double[] seconds = passes(some, LEAST_PASSES, ENOUGH_SECONDS);
    Arrays.sort(seconds);
    return examples / seconds[seconds.length / 2];
  }

  /** Seconds of each pass: of so many, and of more until so much time is spent. */
  private double[] passes(List<Batch> some, int least, double enough) {
    DoubleStream.Builder seconds = DoubleStream.builder();
    double spent = 0;
    for (int pass = 0; pass < least || spent < enough; pass++) {
      long start = System.nanoTime();
      for (Batch batch : some) {
        model.run(batch, Capture.LOGITS).close();
      }
      double elapsed = (System.nanoTime() - start) * 1e-9;
      seconds.add(elapsed);
      spent += elapsed;
    }
    return seconds.build().toArray();
  }
}
