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
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.Callable;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.Device;
import org.bertology4j.HeadGradientAccumulator;
import org.bertology4j.HeadImportance;
import org.bertology4j.Model;
import org.bertology4j.ModelConfig;
import org.bertology4j.Operation;
import org.bertology4j.OperationTiming;
import org.bertology4j.RunOptions;
import org.bertology4j.checkpoint.Checkpoint;
import picocli.CommandLine.Command;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

/**
 * {@code bertology bench}: how fast a model of BERT-base's or GPT-2's shape runs, as a part of the
 * speed at which this device multiplies matrices, measured in turn with it.
 */
@Command(
    name = "bench",
    description =
        "Measures passes over a random model of BERT-base's or GPT-2's shape against the device's"
            + " own matrix products, in one run: only the ratios mean something on a busy"
            + " machine.")
final class BenchCommand implements Callable<Integer> {
  /** The shapes that are known. */
  enum Shape {
    BERT("bert-base"),
    GPT2("gpt2");

    private final String name;

    Shape(String name) {
      this.name = name;
    }

    @Override
    public String toString() {
      return name;
    }
  }

  private static final class ShapeConverter implements ITypeConverter<Shape> {
    @Override
    public Shape convert(String name) {
      return Arrays.stream(Shape.values())
          .filter(shape -> shape.name.equals(name))
          .findFirst()
          .orElseThrow(
              () -> new TypeConversionException("\"" + name + "\" is none of bert-base, gpt2"));
    }
  }

  private static final int USUAL_TOKENS = 3200;
  private static final int USUAL_LENGTH = 50;
  private static final int GPT2_LENGTH = 128;
  private static final double SECONDS_OF_A_PEAK = 0.2;
  private static final double SECONDS_OF_AN_OPERATION = 0.1;

  @Option(
      names = "--shape",
      defaultValue = "bert-base",
      paramLabel = "NAME",
      converter = ShapeConverter.class,
      description = "bert-base or gpt2 (default: ${DEFAULT-VALUE})")
  private Shape shape;

  @Option(
      names = "--length",
      paramLabel = "N",
      description = "tokens of each text (default: as long as MRPC's pairs, about 50; of gpt2 128)")
  private Optional<Integer> length = Optional.empty();

  @Option(
      names = "--examples",
      paramLabel = "N",
      description = "texts (default: so many that they have about 3200 tokens)")
  private Optional<Integer> givenExamples = Optional.empty();

  @Option(
      names = "--rounds",
      defaultValue = "7",
      paramLabel = "N",
      description = "rounds of each measurement; the median counts (default: ${DEFAULT-VALUE})")
  private int rounds;

  @Mixin private ModelArguments arguments;
  @Spec private CommandSpec spec;

  /**
   * A kind of pass.
   *
   * @param importance whether heads' gradients are added up, as {@link HeadImportance#measure} does
   */
  private record Measurement(String name, double flops, boolean importance, Capture... captures) {
    static Measurement forward(String name, double flops, Capture... captures) {
      return new Measurement(name, flops, false, captures);
    }

    static Measurement importance(String name, double flops, Capture... captures) {
      return new Measurement(name, flops, true, captures);
    }

    RunOptions options(HeadGradientAccumulator sums) {
      RunOptions options = RunOptions.capturing(captures);
      return importance ? options.accumulating(sums) : options;
    }
  }

  @Override
  public Integer call() {
    ModelConfig config = shape == Shape.BERT ? bertBase() : gpt2();
    int tokens = length.orElse(shape == Shape.BERT ? USUAL_LENGTH : GPT2_LENGTH);
    Usage.require(
        tokens > 1 && tokens <= config.maxPositionEmbeddings(),
        spec,
        "--length is %d, expected 2 to %d",
        tokens,
        config.maxPositionEmbeddings());
    int examples = givenExamples.orElse(Math.max(1, USUAL_TOKENS / tokens));
    Usage.require(examples > 0, spec, "--examples is %d, expected 1 or more", examples);
    Usage.require(rounds > 0, spec, "--rounds is %d, expected 1 or more", rounds);
    PrintWriter out = spec.commandLine().getOut();
    Batch batch = batch(config, examples);
    try (Model model = Model.load(Checkpoint.random(config, 1), arguments.options());
        HeadGradientAccumulator sums = new HeadGradientAccumulator(model)) {
      out.println(model.device().description());
      out.println("dtype: " + model.dtype());
      out.println("model: " + config);
      out.printf(
          Locale.ROOT,
          "batch: %d texts, %.1f tokens on average, %d at most%n",
          batch.examples(),
          (double) batch.tokens() / batch.examples(),
          batch.longest());
      List<Measurement> measurements = measurements(config, batch);
      out.printf(
          Locale.ROOT,
          "weights: %.0f MB; counted of real tokens: %.1f GFLOP a forward pass%n%n",
          model.memoryBytes() / 1e6,
          measurements.get(0).flops() / 1e9);
      out.println(
          "                                        ms   examples/s    GFLOP/s   of the peak"
              + "           peak MB");
      for (Measurement measurement : measurements) {
        measure(out, model, batch, measurement, measurement.options(sums));
      }
      out.printf(
          Locale.ROOT,
          "%ncopies inside the device's memory: %.1f GB/s read and written%n",
          model.device().copyPeak(SECONDS_OF_A_PEAK) / 1e9);
      out.printf(
          Locale.ROOT,
          "peak MB: resident memory of the host at most so far, the Java machine's included; the"
              + " weights are %d MB as float32%n",
          model.parameterCount() * Float.BYTES / 1_000_000);
      operations(out, model, batch);
    }
    return 0;
  }

  /** Each operation of a layer alone, in texts as long as the batch's are on average. */
  private void operations(PrintWriter out, Model model, Batch batch) {
    int mean = Math.round((float) batch.tokens() / batch.examples());
    double peak = model.device().matrixPeak(model.dtype(), SECONDS_OF_A_PEAK);
    out.printf(
        Locale.ROOT,
        "%noperations of %d texts of %d tokens, against a copy of the least bytes that they move,"
            + " the peak of%nproducts (%.0f GFLOP/s), and cuBLAS%n%n"
            + "                                 \u00b5s  of a copy    GFLOP/s  of the peak"
            + "  cuBLAS \u00b5s  of cuBLAS%n",
        batch.examples(),
        mean,
        peak / 1e9);
    for (Operation operation : Operation.values()) {
      OperationTiming timing =
          model
              .device()
              .measure(
                  operation,
                  model.config(),
                  model.dtype(),
                  batch.examples(),
                  mean,
                  SECONDS_OF_AN_OPERATION);
      out.printf(
          Locale.ROOT,
          "%-26s %9.1f %10.2f %10s %12s %10s %10s%n",
          operation,
          timing.seconds() * 1e6,
          timing.copySeconds() / timing.seconds(),
          timing.leastFlops() == 0
              ? ""
              : number("%.0f", timing.leastFlops() / timing.seconds() / 1e9),
          timing.leastFlops() == 0
              ? ""
              : number("%.2f", timing.leastFlops() / timing.seconds() / peak),
          timing.librarySeconds().isPresent()
              ? number("%.1f", timing.librarySeconds().getAsDouble() * 1e6)
              : "",
          timing.librarySeconds().isPresent()
              ? number("%.2f", timing.librarySeconds().getAsDouble() / timing.seconds())
              : "");
      out.flush();
    }
    out.printf(
        "%nof a copy, of cuBLAS: the speed of the operation as a part of theirs; above 1 it is"
            + " faster.%n");
    boolean library = model.device().description().contains("matrix products: cuBLAS");
    if (!library && model.device().name().startsWith("cuda")) {
      out.println(
          "cuBLAS was not found: the products have nothing to be held against but the peak.");
    }
  }

  private static String number(String format, double value) {
    return String.format(Locale.ROOT, format, value);
  }

  /** Passes and peak measurements in turn, so that both see the same machine. */
  private void measure(
      PrintWriter out, Model model, Batch batch, Measurement measurement, RunOptions options) {
    Device device = model.device();
    double[] seconds = new double[rounds];
    double[] peaks = new double[rounds];
    for (int round = -1; round < rounds; round++) {
      double peak = device.matrixPeak(model.dtype(), SECONDS_OF_A_PEAK);
      long start = System.nanoTime();
      model.run(batch, options).close();
      double elapsed = (System.nanoTime() - start) * 1e-9;
      if (round >= 0) {
        seconds[round] = elapsed;
        peaks[round] = peak;
      }
    }
    double[] ratios = new double[rounds];
    for (int i = 0; i < rounds; i++) {
      ratios[i] = measurement.flops() / seconds[i] / peaks[i];
    }
    double typical = median(seconds);
    out.printf(
        Locale.ROOT,
        "%-32s %10.1f %12.1f %10.0f   %.2f (%.2f to %.2f) %8d%n",
        measurement.name(),
        typical * 1e3,
        batch.examples() / typical,
        measurement.flops() / typical / 1e9,
        median(ratios),
        Arrays.stream(ratios).min().orElseThrow(),
        Arrays.stream(ratios).max().orElseThrow(),
        peakResident() * 1024 / 1_000_000);
    out.flush();
  }

  private static double median(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    return sorted[sorted.length / 2];
  }

  /** What is measured, with the floating-point operations that it takes of real tokens. */
  private static List<Measurement> measurements(ModelConfig config, Batch batch) {
    double products = products(config, batch.tokens());
    if (config.architecture() == ModelConfig.Architecture.BERT) {
      return List.of(
          Measurement.forward("forward", products, Capture.LOGITS),
          Measurement.importance("importance", 2 * products, Capture.LOSS, Capture.LOGITS),
          Measurement.importance(
              "importance and entropies",
              2 * products,
              Capture.LOSS,
              Capture.LOGITS,
              Capture.ATTENTION_ENTROPIES),
          Measurement.forward(
              "forward, all states and maps",
              products,
              Capture.LOGITS,
              Capture.HIDDEN_STATES,
              Capture.ATTENTIONS));
    }
    int states = config.numHiddenLayers();
    double attention = causalAttention(config, batch);
    double vocabulary = 2.0 * config.hiddenSize() * config.vocabSize() * predicted(batch);
    return List.of(
        Measurement.forward("forward", products + attention, Capture.HIDDEN_STATES.layers(states)),
        Measurement.forward(
            "forward, all states and maps",
            products + attention,
            Capture.HIDDEN_STATES,
            Capture.ATTENTIONS),
        Measurement.forward("forward, loss", products + attention + vocabulary, Capture.LOSS),
        Measurement.importance(
            "importance",
            // Of attention's backward the four products of its gradients count, not the scores that
            // are computed again.
            2 * products + 3 * attention + 2 * vocabulary,
            Capture.LOSS));
  }

  /** Of scores and their products with values, below the diagonal and on it. */
  private static double causalAttention(ModelConfig config, Batch batch) {
    double pairs = 0;
    for (int b = 0; b < batch.examples(); b++) {
      pairs += 0.5 * batch.length(b) * (batch.length(b) + 1.0);
    }
    return 4 * pairs * config.hiddenSize() * config.numHiddenLayers();
  }

  private static long predicted(Batch batch) {
    return (long) batch.tokens() - batch.examples();
  }

  /** Floating-point operations of the layers' weight matrices in a forward pass. */
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

  private static ModelConfig gpt2() {
    JsonObject json = new JsonObject();
    json.addProperty("model_type", "gpt2");
    json.addProperty("n_layer", 12);
    json.addProperty("n_head", 12);
    json.addProperty("n_embd", 768);
    json.addProperty("n_positions", 1024);
    json.addProperty("vocab_size", 50257);
    return ModelConfig.fromJson(json, "GPT-2");
  }

  /** Of BERT, unless a length is given, pairs of sentences as long as those of MRPC. */
  private Batch batch(ModelConfig config, int examples) {
    Random random = new Random(1);
    List<int[]> sequences = new ArrayList<>();
    for (int b = 0; b < examples; b++) {
      int usual = (int) Math.round(USUAL_LENGTH + 13 * random.nextGaussian());
      int tokens =
          length.orElse(shape == Shape.BERT ? Math.max(18, Math.min(100, usual)) : GPT2_LENGTH);
      sequences.add(random.ints(tokens, 0, config.vocabSize()).toArray());
    }
    Batch batch = Batch.of(sequences.toArray(new int[0][]));
    return shape == Shape.BERT
        ? batch.withLabels(random.ints(examples, 0, 2).toArray())
        : batch.withNextTokens();
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
