package org.bertology4j.cli;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
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
 * {@code bertology bench}: how fast a model of BERT's or GPT-2's shape runs, as a part of the speed
 * at which this device multiplies matrices, measured in turn with it.
 */
@Command(
    name = "bench",
    description =
        "Measures passes over a random model of BERT's or GPT-2's shape against the device's"
            + " own matrix products, in one run: only the ratios mean something on a busy"
            + " machine.")
final class BenchCommand implements Callable<Integer> {
  private static final class ShapeConverter implements ITypeConverter<ModelShape> {
    @Override
    public ModelShape convert(String name) {
      return ModelShape.named(name)
          .orElseThrow(
              () ->
                  new TypeConversionException(
                      "\"" + name + "\" is none of bert-base, bert-tiny, gpt2"));
    }
  }

  private static final int USUAL_TOKENS = 3200;
  private static final int GPT2_LENGTH = 128;
  private static final double SECONDS_OF_A_PEAK = 0.2;
  private static final double SECONDS_OF_AN_OPERATION = 0.1;

  @Option(
      names = "--shape",
      defaultValue = "bert-base",
      paramLabel = "NAME",
      converter = ShapeConverter.class,
      description = "bert-base, bert-tiny or gpt2 (default: ${DEFAULT-VALUE})")
  private ModelShape shape;

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
    ModelConfig config = shape.config();
    int tokens = length.orElse(shape == ModelShape.GPT2 ? GPT2_LENGTH : RandomTexts.MRPC_LENGTH);
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
    double forward = Work.forward(config, batch);
    double importance = Work.importance(config, batch);
    if (!config.architecture().isCausal()) {
      return List.of(
          Measurement.forward("forward", forward, Capture.LOGITS),
          Measurement.importance("importance", importance, Capture.LOSS, Capture.LOGITS),
          Measurement.importance(
              "importance and entropies",
              importance,
              Capture.LOSS,
              Capture.LOGITS,
              Capture.ATTENTION_ENTROPIES),
          Measurement.forward(
              "forward, all states and maps",
              forward,
              Capture.LOGITS,
              Capture.HIDDEN_STATES,
              Capture.ATTENTIONS));
    }
    int states = config.numHiddenLayers();
    return List.of(
        Measurement.forward("forward", forward, Capture.HIDDEN_STATES.layers(states)),
        Measurement.forward(
            "forward, all states and maps", forward, Capture.HIDDEN_STATES, Capture.ATTENTIONS),
        Measurement.forward(
            "forward, loss", forward + Work.vocabulary(config, batch), Capture.LOSS),
        Measurement.importance("importance", importance, Capture.LOSS));
  }

  /** Of BERT, unless a length is given, pairs of sentences as long as those of MRPC. */
  private Batch batch(ModelConfig config, int examples) {
    boolean bert = shape != ModelShape.GPT2;
    List<int[]> texts =
        bert && length.isEmpty()
            ? RandomTexts.asLongAsMrpc(examples, config.vocabSize())
            : RandomTexts.ofLength(length.orElse(GPT2_LENGTH), examples, config.vocabSize());
    Batch batch = Batch.of(texts.toArray(new int[0][]));
    return bert ? batch.withLabels(RandomTexts.labels(examples)) : batch.withNextTokens();
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
