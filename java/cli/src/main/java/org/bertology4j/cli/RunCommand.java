package org.bertology4j.cli;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadScores;
import org.bertology4j.ModelReplicas;
import picocli.CommandLine.Command;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

/**
 * {@code bertology run}: what run_bertology.py does, under its options' names; without a model and
 * data, the same on the model and the sentences that come along.
 */
@Command(
    name = "run",
    customSynopsis = {
      "bertology run [--output_dir=FOLDER] [OPTIONS]",
      "       bertology run --model_name_or_path=PATH --output_dir=FOLDER",
      "                     --task_name=TASK --data_dir=FOLDER [OPTIONS]",
      "       bertology run --model_name_or_path=PATH --output_dir=FOLDER",
      "                     --input=FILE [OPTIONS]",
      "       bertology run --task_name=lm [--output_dir=FOLDER] [OPTIONS]",
      "       bertology run --model_name_or_path=PATH --output_dir=FOLDER",
      "                     --task_name=lm --input=FILE [OPTIONS]"
    },
    description =
        "Head importance on a labelled data set; with --try_masking, masks and prunes the least"
            + " important heads; of a GPT with --task_name lm, on texts without labels. Without a"
            + " model and data: bge-small and 3000 labelled sentences, or a small GPT-2 and its"
            + " texts, with a pruning curve.")
final class RunCommand implements Callable<Integer> {
  @Mixin private DataArguments data;

  @Option(
      names = "--importance",
      defaultValue = "paper",
      paramLabel = "KIND",
      converter = KindConverter.class,
      description =
          "paper, per_token, signed, squared, or hf: what run_bertology.py computes (default:"
              + " ${DEFAULT-VALUE})")
  private HeadImportance.Kind importance;

  @Option(
      names = "--dont_normalize_importance_by_layer",
      description = "do not divide each layer's importance by its length")
  private boolean notByLayer;

  @Option(
      names = "--dont_normalize_global_importance",
      description = "do not scale importance to 0 ... 1")
  private boolean notGlobally;

  @Option(names = "--try_masking", description = "mask, then prune, the least important heads")
  private boolean tryMasking;

  @Option(
      names = "--masking_threshold",
      defaultValue = "0.9",
      paramLabel = "PART",
      description = "part of the score to keep (default: ${DEFAULT-VALUE})")
  private double maskingThreshold;

  @Option(
      names = "--masking_amount",
      defaultValue = "0.1",
      paramLabel = "PART",
      description = "part of all heads to mask at each step (default: ${DEFAULT-VALUE})")
  private double maskingAmount;

  @Option(
      names = "--save_pruned",
      paramLabel = "FOLDER",
      description = "with --try_masking: save the pruned model, as a Hugging Face folder")
  private Optional<Path> savePruned = Optional.empty();

  @Option(
      names = "--seed",
      defaultValue = "1",
      paramLabel = "N",
      description = "of random orders of heads (default: ${DEFAULT-VALUE})")
  private long seed;

  @Option(names = "--no_cuda", description = "the same as --device cpu")
  private boolean noCuda;

  @Mixin private ModelArguments arguments;
  @Spec private CommandSpec spec;

  /** What is normalised, and which definition is taken. */
  record ImportanceOptions(HeadImportance.Kind kind, boolean byLayer, boolean globally) {
    /** The scores that these options ask for. */
    HeadScores scores(HeadImportance importance) {
      HeadScores scores = importance.scores(kind);
      scores = byLayer ? scores.normalizedByLayer() : scores;
      return globally ? scores.normalizedGlobally() : scores;
    }
  }

  private static final class KindConverter implements ITypeConverter<HeadImportance.Kind> {
    @Override
    public HeadImportance.Kind convert(String name) {
      List<HeadImportance.Kind> kinds = Arrays.asList(HeadImportance.Kind.values());
      return kinds.stream()
          .filter(kind -> kind.name().equalsIgnoreCase(name.replace('-', '_')))
          .findFirst()
          .orElseThrow(
              () ->
                  new TypeConversionException(
                      "\""
                          + name
                          + "\" is none of "
                          + kinds.stream()
                              .map(kind -> kind.name().toLowerCase(Locale.ROOT))
                              .collect(Collectors.joining(", "))));
    }
  }

  @Override
  public Integer call() {
    checkUsage();
    if (noCuda) {
      arguments.withoutCuda();
    }
    ImportanceOptions options = new ImportanceOptions(importance, !notByLayer, !notGlobally);
    if (data.isEmbedded()) {
      Path folder = data.outputDir();
      if (data.isLanguageModel()) {
        new EmbeddedLanguageRun(
                arguments, options, new Results(folder), seed, spec.commandLine().getOut())
            .run();
        return 0;
      }
      new EmbeddedRun(arguments, options, new Results(folder), seed, spec.commandLine().getOut())
          .run();
      return 0;
    }
    Results results = new Results(data.outputDir());
    Path model = data.model();
    savePruned.ifPresent(folder -> Outputs.checkModelFolder(folder, model));
    try (ModelReplicas loaded = arguments.load(model)) {
      Task wanted = data.task(loaded.first(), TextBatches.TOKENS_PER_BATCH);
      Optional<TaskRun.Masking> masking =
          tryMasking
              ? Optional.of(new TaskRun.Masking(maskingThreshold, maskingAmount, savePruned))
              : Optional.empty();
      new TaskRun(
              loaded,
              wanted,
              options,
              data.batchSize().orElse(1),
              results,
              spec.commandLine().getOut())
          .run(model, masking);
    }
    return 0;
  }

  private void checkUsage() {
    require(
        !noCuda || List.of("auto", "cpu").containsAll(arguments.devices()),
        "--no_cuda and --device %s contradict each other",
        String.join(",", arguments.devices()));
    data.checkUsage(spec);
    if (data.isEmbedded()) {
      require(!tryMasking && savePruned.isEmpty(), DataArguments.NOTHING_TO_CHOOSE);
      return;
    }
    require(
        maskingThreshold > 0 && maskingThreshold < 1,
        "--masking_threshold is %s, expected above 0, below 1",
        maskingThreshold);
    require(
        maskingAmount > 0 && maskingAmount < 1,
        "--masking_amount is %s, expected above 0, below 1",
        maskingAmount);
    require(savePruned.isEmpty() || tryMasking, "--save_pruned saves what --try_masking prunes");
  }

  private void require(boolean ok, String format, Object... values) {
    Usage.require(ok, spec, format, values);
  }
}
