package org.bertology4j.cli;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.concurrent.Callable;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.Device;
import org.bertology4j.HeadImportance;
import org.bertology4j.Model;
import org.bertology4j.ModelConfig;
import org.bertology4j.checkpoint.Checkpoint;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/**
 * {@code bertology bench}: how fast a model of BERT-base's shape runs, as a part of the speed at
 * which this machine multiplies matrices, measured in turn with it.
 */
@Command(
    name = "bench",
    description =
        "Measures passes over a random model of BERT-base's shape against the machine's own matrix"
            + " products, in one run: only the ratios mean something on a busy machine.")
final class BenchCommand implements Callable<Integer> {
  @Option(
      names = "--examples",
      defaultValue = "64",
      paramLabel = "N",
      description = "texts of about 50 tokens (default: ${DEFAULT-VALUE})")
  private int examples;

  @Option(
      names = "--rounds",
      defaultValue = "7",
      paramLabel = "N",
      description = "rounds of each measurement; the median counts (default: ${DEFAULT-VALUE})")
  private int rounds;

  @Mixin private ModelArguments arguments;
  @Spec private CommandSpec spec;

  /** What {@link HeadImportance#measure} captures, and the predictions for a score. */
  private static final Capture[] IMPORTANCE = {
    Capture.LOGITS, Capture.LOSS, Capture.HEAD_GRADIENTS, Capture.TOKEN_HEAD_GRADIENTS
  };

  private record Measurement(String name, int products, Capture... captures) {}

  @Override
  public Integer call() {
    Usage.require(examples > 0, spec, "--examples is %d, expected 1 or more", examples);
    Usage.require(rounds > 0, spec, "--rounds is %d, expected 1 or more", rounds);
    PrintWriter out = spec.commandLine().getOut();
    ModelConfig config = bertBase();
    Batch batch = batch(config);
    try (Model model = Model.load(Checkpoint.random(config, 1), arguments.options())) {
      out.println(model.device().description());
      out.println("dtype: " + model.dtype());
      out.println("model: " + config);
      out.printf(
          Locale.ROOT,
          "batch: %d texts, %.1f tokens on average, %d at most%n",
          batch.examples(),
          (double) batch.tokens() / batch.examples(),
          batch.longest());
      double products = products(config, batch.tokens());
      out.printf(
          Locale.ROOT,
          "weights: %.0f MB, of which encoder products of real tokens: %.1f GFLOP a pass%n%n",
          model.memoryBytes() / 1e6,
          products / 1e9);
      out.println(
          "                                        ms   examples/s    GFLOP/s   of the peak"
              + "           peak MB");
      List<Measurement> measurements =
          List.of(
              new Measurement("forward", 1, Capture.LOGITS),
              new Measurement("importance", 2, IMPORTANCE),
              new Measurement(
                  "importance and entropies", 2, with(IMPORTANCE, Capture.ATTENTION_ENTROPIES)),
              new Measurement(
                  "forward, all states and maps",
                  1,
                  Capture.LOGITS,
                  Capture.HIDDEN_STATES,
                  Capture.ATTENTIONS));
      for (Measurement measurement : measurements) {
        measure(out, model, batch, measurement, products);
      }
      out.printf(
          Locale.ROOT,
          "%npeak MB: resident memory at most so far, the Java machine's included; the weights are"
              + " %d MB as float32%n",
          model.parameterCount() * Float.BYTES / 1_000_000);
    }
    return 0;
  }

  /** Passes and peak measurements in turn, so that both see the same machine. */
  private void measure(
      PrintWriter out, Model model, Batch batch, Measurement measurement, double products) {
    Device device = model.device();
    double[] seconds = new double[rounds];
    double[] peaks = new double[rounds];
    for (int round = -1; round < rounds; round++) {
      double peak = device.matrixPeak(model.dtype(), 0.2);
      long start = System.nanoTime();
      model.run(batch, measurement.captures()).close();
      double elapsed = (System.nanoTime() - start) * 1e-9;
      if (round >= 0) {
        seconds[round] = elapsed;
        peaks[round] = peak;
      }
    }
    double flops = measurement.products() * products;
    double[] ratios = new double[rounds];
    for (int i = 0; i < rounds; i++) {
      ratios[i] = flops / seconds[i] / peaks[i];
    }
    double typical = median(seconds);
    out.printf(
        Locale.ROOT,
        "%-32s %10.1f %12.1f %10.0f   %.2f (%.2f to %.2f) %8d%n",
        measurement.name(),
        typical * 1e3,
        batch.examples() / typical,
        flops / typical / 1e9,
        median(ratios),
        Arrays.stream(ratios).min().orElseThrow(),
        Arrays.stream(ratios).max().orElseThrow(),
        peakResident() * 1024 / 1_000_000);
    out.flush();
  }

  private static Capture[] with(Capture[] captures, Capture more) {
    Capture[] all = Arrays.copyOf(captures, captures.length + 1);
    all[captures.length] = more;
    return all;
  }

  private static double median(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    return sorted[sorted.length / 2];
  }

  /** Floating-point operations of the encoder's weight matrices in a forward pass. */
  private static double products(ModelConfig config, long tokens) {
    double hidden = config.hiddenSize();
    double perLayer = 4 * hidden * hidden + 2 * hidden * config.intermediateSize();
    return 2 * perLayer * config.numHiddenLayers() * tokens;
  }

  private static ModelConfig bertBase() {
    JsonObject json = new JsonObject();
    json.addProperty("num_hidden_layers", 12);
    json.addProperty("num_attention_heads", 12);
    json.addProperty("hidden_size", 768);
    json.addProperty("intermediate_size", 3072);
    json.addProperty("vocab_size", 30522);
    json.addProperty("max_position_embeddings", 512);
    json.addProperty("type_vocab_size", 2);
    return ModelConfig.fromJson(json, "BERT-base");
  }

  /** Pairs of sentences as long as those of MRPC: 50 tokens on average. */
  private Batch batch(ModelConfig config) {
    Random random = new Random(1);
    List<int[]> sequences = new ArrayList<>();
    for (int b = 0; b < examples; b++) {
      int length = Math.max(18, Math.min(100, (int) Math.round(50 + 13 * random.nextGaussian())));
      sequences.add(random.ints(length, 0, config.vocabSize()).toArray());
    }
    int[] labels = random.ints(examples, 0, 2).toArray();
    return Batch.of(sequences.toArray(new int[0][])).withLabels(labels);
  }

  /** In kilobytes. */
  private static long peakResident() {
    try {
      for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
        if (line.startsWith("VmHWM:")) {
          return Long.parseLong(line.replaceAll("\\D", ""));
        }
      }
    } catch (IOException e) {
      // not Linux
    }
    return 0;
  }
}
