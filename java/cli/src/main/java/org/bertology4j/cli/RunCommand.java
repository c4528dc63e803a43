package org.bertology4j.cli;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.bertology4j.Batch;
import org.bertology4j.BertologyException;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadScores;
import org.bertology4j.Model;
import org.bertology4j.ModelConfig;
import org.bertology4j.ModelReplicas;
import org.bertology4j.text.DatasetReader;
import org.bertology4j.text.Documents;
import org.bertology4j.text.GlueTask;
import org.bertology4j.text.Metric;
import picocli.CommandLine.ArgGroup;
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
  private static final int ALL_EXAMPLES = -1;

  @Option(
      names = "--model_name_or_path",
      paramLabel = "PATH",
      description = "folder or file of the model: a classifier, or of the task lm a GPT")
  private Optional<Path> model = Optional.empty();

  @Option(
      names = "--task_name",
      paramLabel = "TASK",
      converter = TaskConverter.class,
      description =
          "GLUE task: cola, sst-2, mrpc, sts-b, qqp, mnli, mnli-mm, qnli, rte, wnli; or lm, a"
              + " language model's own")
  private Optional<TaskName> task = Optional.empty();

  @Option(
      names = "--data_dir",
      paramLabel = "FOLDER",
      description = "folder with the task's dev file, as GLUE has it")
  private Optional<Path> dataDir = Optional.empty();

  @ArgGroup(exclusive = false)
  private Table givenTable; // picocli leaves null if nothing of it is given

  @Option(
      names = "--output_dir",
      paramLabel = "FOLDER",
      description =
          "where results go; those of an earlier run are replaced (default with no model and data:"
              + " bertology-results)")
  private Optional<Path> outputDir = Optional.empty();

  @Option(
      names = "--data_subset",
      defaultValue = "" + ALL_EXAMPLES,
      paramLabel = "N",
      description = "only the first so many examples (default: ${DEFAULT-VALUE}, all)")
  private int dataSubset;

  @Option(
      names = "--max_seq_length",
      paramLabel = "N",
      description = "cut examples of more tokens (default: what the model can take)")
  private Optional<Integer> maxSequenceLength = Optional.empty();

  @Option(
      names = "--batch_size",
      paramLabel = "N",
      description =
          "examples of a batch (default: as many as run fastest); changes no result but that of"
              + " --importance hf, where it is 1 by default")
  private Optional<Integer> batchSize = Optional.empty();

  @Option(
      names = "--metric_name",
      paramLabel = "METRIC",
      description = "score that counts (default: the task's own, such as acc, mcc for cola)")
  private Optional<String> metricName = Optional.empty();

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

  @Mixin private DocumentOptions documents;
  @Mixin private ModelArguments arguments;
  @Spec private CommandSpec spec;

  /** A table of examples, instead of a task. */
  static final class Table {
    @Option(
        names = "--input",
        required = true,
        paramLabel = "FILE",
        description =
            "instead of a task: .tsv, .csv or .jsonl with named columns; of the task lm also plain"
                + " text, a text a line")
    private Path file;

    @Option(
        names = "--text_column",
        defaultValue = "sentence",
        paramLabel = "COLUMN",
        description = "column of the text in --input (default: ${DEFAULT-VALUE})")
    private String text;

    @Option(
        names = "--pair_column",
        paramLabel = "COLUMN",
        description = "column of the second text (default: there is none)")
    private Optional<String> pair = Optional.empty();

    @Option(
        names = "--label_column",
        defaultValue = "label",
        paramLabel = "COLUMN",
        description = "column of the label (default: ${DEFAULT-VALUE})")
    private String label;
  }

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

  /** A task of GLUE; if it is none, a language model's. */
  private record TaskName(Optional<GlueTask> glue) {
    boolean isLanguageModel() {
      return glue.isEmpty();
    }
  }

  private static final class TaskConverter implements ITypeConverter<TaskName> {
    @Override
    public TaskName convert(String name) {
      if (name.equalsIgnoreCase(Task.LANGUAGE_MODEL)) {
        return new TaskName(Optional.empty());
      }
      try {
        return new TaskName(Optional.of(GlueTask.of(name)));
      } catch (BertologyException e) {
        throw new TypeConversionException(e.getMessage());
      }
    }
  }

  @Override
  public Integer call() {
    checkUsage();
    if (noCuda) {
      arguments.withoutCuda();
    }
    ImportanceOptions options = new ImportanceOptions(importance, !notByLayer, !notGlobally);
    if (model.isEmpty()) {
      Path folder = outputDir.orElse(Path.of("bertology-results"));
      if (isLanguageModel()) {
        new EmbeddedLanguageRun(
                arguments, options, new Results(folder), seed, spec.commandLine().getOut())
            .run();
        return 0;
      }
      new EmbeddedRun(arguments, options, new Results(folder), seed, spec.commandLine().getOut())
          .run();
      return 0;
    }
    Results results = new Results(outputDir.orElseThrow());
    savePruned.ifPresent(folder -> Outputs.checkModelFolder(folder, model.get()));
    try (ModelReplicas loaded = arguments.load(model.get())) {
      Model first = loaded.first();
      Task wanted = isLanguageModel() ? languageTask(first) : labelledTask(first);
      Optional<TaskRun.Masking> masking =
          tryMasking
              ? Optional.of(new TaskRun.Masking(maskingThreshold, maskingAmount, savePruned))
              : Optional.empty();
      new TaskRun(
              loaded, wanted, options, batchSize.orElse(1), results, spec.commandLine().getOut())
          .run(model.get(), masking);
    }
    return 0;
  }

  private Optional<Table> table() {
    return Optional.ofNullable(givenTable);
  }

  private boolean isLanguageModel() {
    return task.map(TaskName::isLanguageModel).orElse(false);
  }

  private Task labelledTask(Model loaded) {
    BertologyException.check(
        loaded.hasClassifier(), "%s has no classifier, which a task needs", model.orElseThrow());
    ModelConfig classifier = loaded.config();
    LabelledTask all =
        table()
            .map(given -> LabelledTask.ofTable(given.file, reader(given, classifier), metricName))
            .orElseGet(
                () -> LabelledTask.ofGlue(glue(), dataDir.orElseThrow(), metricName, classifier));
    LabelledTask some = dataSubset == ALL_EXAMPLES ? all : all.first(dataSubset);
    return some.task(
        TextBatches.of(model.orElseThrow(), classifier, some.data(), maxSequenceLength, batchSize));
  }

  private GlueTask glue() {
    return task.flatMap(TaskName::glue).orElseThrow();
  }

  private Task languageTask(Model loaded) {
    BertologyException.check(
        loaded.hasCausalLm(),
        "%s is no model that predicts next tokens, which the task %s needs",
        model.orElseThrow(),
        Task.LANGUAGE_MODEL);
    Table given = table().orElseThrow();
    DatasetReader reader = DatasetReader.builder().text(given.text).build();
    Documents all =
        documents.read(given.file, model.orElseThrow(), loaded.config(), maxSequenceLength, reader);
    Documents some = (dataSubset == ALL_EXAMPLES ? all : all.first(dataSubset)).predicted();
    List<Batch> batches =
        batchSize
            .map(some::labelledBatches)
            .orElseGet(() -> some.labelledBatchesOfTokens(TextBatches.TOKENS_PER_BATCH));
    return Task.ofDocuments(
        given.file, some, batches, metricName.orElse(TokenPredictions.LOG_PERPLEXITY));
  }

  private static DatasetReader reader(Table table, ModelConfig classifier) {
    DatasetReader.Builder reader =
        DatasetReader.builder().text(table.text).label(table.label).labelsOf(classifier);
    table.pair.ifPresent(reader::pair);
    return reader.build();
  }

  private void checkUsage() {
    require(
        !noCuda || List.of("auto", "cpu").containsAll(arguments.devices()),
        "--no_cuda and --device %s contradict each other",
        String.join(",", arguments.devices()));
    documents.checkUsage(spec);
    require(
        isLanguageModel() || !documents.given(),
        "--block_size, --stride and --token_ids are of the task %s",
        Task.LANGUAGE_MODEL);
    boolean embedded = task.isEmpty() || isLanguageModel();
    if (model.isEmpty() && embedded && dataDir.isEmpty() && table().isEmpty()) {
      require(
          !tryMasking
              && savePruned.isEmpty()
              && metricName.isEmpty()
              && batchSize.isEmpty()
              && maxSequenceLength.isEmpty()
              && dataSubset == ALL_EXAMPLES
              && !documents.given(),
          "--model_name_or_path is missing: without a model and data, there is nothing to choose");
      return;
    }
    require(model.isPresent(), "--model_name_or_path is missing");
    require(outputDir.isPresent(), "--output_dir is missing");
    if (isLanguageModel()) {
      require(
          table().isPresent() && dataDir.isEmpty(),
          "--task_name %s needs the texts: --input",
          Task.LANGUAGE_MODEL);
    } else {
      require(
          table().isPresent()
              ? task.isEmpty() && dataDir.isEmpty()
              : task.isPresent() && dataDir.isPresent(),
          "either --task_name and --data_dir, or --input, must be given");
    }
    require(
        dataSubset == ALL_EXAMPLES || dataSubset > 0,
        "--data_subset is %d, expected more than 0, or %d for all",
        dataSubset,
        ALL_EXAMPLES);
    requirePositive("--max_seq_length", maxSequenceLength);
    requirePositive("--batch_size", batchSize);
    require(
        maskingThreshold > 0 && maskingThreshold < 1,
        "--masking_threshold is %s, expected above 0, below 1",
        maskingThreshold);
    require(
        maskingAmount > 0 && maskingAmount < 1,
        "--masking_amount is %s, expected above 0, below 1",
        maskingAmount);
    require(savePruned.isEmpty() || tryMasking, "--save_pruned saves what --try_masking prunes");
    try {
      metricName.ifPresent(this::checkMetric);
    } catch (BertologyException e) {
      require(false, "--metric_name: %s", e.getMessage());
    }
  }

  private void checkMetric(String name) {
    if (isLanguageModel()) {
      TokenPredictions.check(name);
    } else if (task.isPresent()) {
      glue().metric(name);
    } else {
      Metric.of(name);
    }
  }

  private void requirePositive(String option, Optional<Integer> value) {
    require(value.orElse(1) > 0, "%s is %d, expected more than 0", option, value.orElse(1));
  }

  private void require(boolean ok, String format, Object... values) {
    Usage.require(ok, spec, format, values);
  }
}
