package org.bertology4j.cli;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.DoubleStream;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadMask;
import org.bertology4j.ModelReplicas;
import org.bertology4j.RunOptions;

/**
 * Passes of a model over the data of a task, divided among its devices: its scores, and the
 * importance of its heads.
 */
final class TaskPass {
  // A pass over few tokens is short: it takes many to be sure.
  private static final int ENOUGH_TOKENS = 4096;
  private static final int LEAST_PASSES = 5;
  private static final double ENOUGH_SECONDS = 0.2;
  private static final double WARM_UP_SECONDS = 0.1;

  private final ModelReplicas models;
  private final List<Batch> batches;
  private final Predictions predictions;

  /**
   * Passes over these batches.
   *
   * @param predictions what counts of them
   */
  TaskPass(ModelReplicas models, List<Batch> batches, Predictions predictions) {
    this.models = models;
    this.batches = batches;
    this.predictions = predictions;
  }

  /** Importance and scores of one pass. */
  record Result(HeadImportance importance, Map<String, Double> scores) {}

  /** A pass with gradients, under the models' own mask. */
  Result measure(String title, HeadImportance.Accumulator accumulator) {
    List<double[]> read = new ArrayList<>();
    try (Progress<Batch> progress = Progress.over(title, batches)) {
      HeadImportance importance =
          HeadImportance.measure(
              models, progress, accumulator, run -> read.add(predictions.read(run)), captures());
      return new Result(importance, predictions.scores(read));
    }
  }

  /** The scores of a forward pass. */
  Map<String, Double> scores(String title, HeadMask mask) {
    List<double[]> read = new ArrayList<>();
    RunOptions options = RunOptions.capturing(captures()).headMask(mask);
    try (Progress<Batch> progress = Progress.over(title, batches)) {
      models.run(progress, options, run -> read.add(predictions.read(run)));
    }
    return predictions.scores(read);
  }

  private Capture[] captures() {
    return predictions.captures().toArray(new Capture[0]);
  }

  /**
   * Examples a second of forward passes under the models' own mask: the median of passes over the
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
    RunOptions options = RunOptions.capturing(captures());
    DoubleStream.Builder seconds = DoubleStream.builder();
    double spent = 0;
    for (int pass = 0; pass < least || spent < enough; pass++) {
      long start = System.nanoTime();
      models.run(some, options, run -> {});
      double elapsed = (System.nanoTime() - start) * 1e-9;
      seconds.add(elapsed);
      spent += elapsed;
    }
    return seconds.build().toArray();
  }
}
