package org.bertology4j.cli;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.bertology4j.ModelReplicas;
import picocli.CommandLine.Command;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

/** {@code bertology sweep}: scores under many head masks over the same data, in one pass. */
@Command(
    name = "sweep",
    customSynopsis = {
      "bertology sweep --kind=KIND [--output_dir=FOLDER] [OPTIONS]",
      "       bertology sweep --kind=KIND --model_name_or_path=PATH --output_dir=FOLDER",
      "                       --task_name=TASK --data_dir=FOLDER [OPTIONS]",
      "       bertology sweep --kind=KIND --model_name_or_path=PATH --output_dir=FOLDER",
      "                       [--task_name=lm] --input=FILE [OPTIONS]",
      "       bertology sweep --kind=KIND --task_name=lm [--output_dir=FOLDER] [OPTIONS]"
    },
    description =
        "A model's score under many head masks, of which layers in common are computed once: with"
            + " each head masked, with each head alone in its layer, with growing parts of the"
            + " heads masked in three orders, or the heads' Shapley values. Without a model and"
            + " data: bge-small and 600 labelled sentences, or a small GPT-2 and its test text.")
final class SweepCommand implements Callable<Integer> {
  private static final int PERMUTATIONS = 10;

  /** What is swept. */
  enum Kind {
    ABLATION,
    ALL_BUT_ONE,
    CURVE,
    SHAPLEY;

    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /** What masks are scored by. */
  enum Value {
    METRIC,
    LOSS;

    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  private abstract static class NameConverter<E extends Enum<E>> implements ITypeConverter<E> {
    private final E[] values;

    NameConverter(E[] values) {
      this.values = values;
    }

    @Override
    public E convert(String name) {
      return Arrays.stream(values)
          .filter(value -> value.toString().equalsIgnoreCase(name.replace('-', '_')))
          .findFirst()
          .orElseThrow(
              () ->
                  new TypeConversionException(
                      String.format(
                          "\"%s\" is none of %s",
                          name,
                          Arrays.stream(values)
                              .map(Object::toString)
                              .collect(Collectors.joining(", ")))));
    }
  }

  private static final class KindConverter extends NameConverter<Kind> {
    KindConverter() {
      super(Kind.values());
    }
  }

  private static final class ValueConverter extends NameConverter<Value> {
    ValueConverter() {
      super(Value.values());
    }
  }

  @Option(
      names = "--kind",
      required = true,
      paramLabel = "KIND",
      converter = KindConverter.class,
      description =
          "ablation: each head masked (Michel et al. 2019); all_but_one: all heads of a layer but"
              + " one masked; curve: growing parts of the heads masked; shapley: Shapley values"
              + " (Held and Yang 2023)")
  private Kind kind;

  @Mixin private DataArguments data;

  @Option(
      names = "--value",
      defaultValue = "metric",
      paramLabel = "VALUE",
      converter = ValueConverter.class,
      description =
          "what masks are scored by: metric, that of --metric_name, or loss, the mean loss of an"
              + " example, of a language model of a token (default: ${DEFAULT-VALUE})")
  private Value value;

  @Option(
      names = "--resume",
      description =
          "go on with the sweep that was interrupted, from its file sweep.jsonl in the output"
              + " folder, if it is there; the other options must be the same")
  private boolean resume;

  @Option(
      names = "--permutations",
      paramLabel = "N",
      description = "of shapley: random orders of the heads (default: " + PERMUTATIONS + ")")
  private Optional<Integer> permutations = Optional.empty();

  @Option(
      names = "--tolerance",
      paramLabel = "T",
      description =
          "of shapley: leave an order where the score is at most this far from that without heads"
              + " (default: follow it to its end)")
  private Optional<Double> tolerance = Optional.empty();

  @Option(
      names = "--seed",
      defaultValue = "1",
      paramLabel = "N",
      description = "of random orders of heads (default: ${DEFAULT-VALUE})")
  private long seed;

  @Mixin private ModelArguments arguments;
  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    checkUsage();
    Results results = new Results(data.outputDir());
    SweepRun.Options options =
        new SweepRun.Options(
            kind, value, permutations.orElse(PERMUTATIONS), tolerance, seed, resume);
    Path folder = folder();
    try (ModelReplicas models = arguments.load(folder)) {
      Task task = task(models);
      new SweepRun(models, task, options, results, spec.commandLine().getOut()).run(folder);
    }
    return 0;
  }

  private Path folder() {
    if (!data.isEmbedded()) {
      return data.model();
    }
    return data.isLanguageModel() ? EmbeddedLanguageRun.modelFolder() : EmbeddedRun.modelFolder();
  }

  private Task task(ModelReplicas models) {
    int tokens = TextBatches.tokensOfSweep(models);
    if (!data.isEmbedded()) {
      return data.task(models.first(), tokens);
    }
    return data.isLanguageModel()
        ? EmbeddedLanguageRun.testTask(models, tokens)
        : EmbeddedRun.testTask(models, tokens);
  }

  private void checkUsage() {
    data.checkUsage(spec);
    Usage.require(
        kind == Kind.SHAPLEY || (permutations.isEmpty() && tolerance.isEmpty()),
        spec,
        "--permutations and --tolerance are of --kind %s",
        Kind.SHAPLEY);
    Usage.require(
        permutations.orElse(1) > 0,
        spec,
        "--permutations is %d, expected more than 0",
        permutations.orElse(1));
    Usage.require(
        tolerance.orElse(0.0) >= 0 && Double.isFinite(tolerance.orElse(0.0)),
        spec,
        "--tolerance is %s, expected 0 or more",
        tolerance.orElse(0.0));
  }
}
