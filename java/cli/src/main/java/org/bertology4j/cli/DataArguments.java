package org.bertology4j.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.bertology4j.Batch;
import org.bertology4j.BertologyException;
import org.bertology4j.Model;
import org.bertology4j.ModelConfig;
import org.bertology4j.text.DatasetReader;
import org.bertology4j.text.Documents;
import org.bertology4j.text.GlueTask;
import org.bertology4j.text.Metric;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.TypeConversionException;

/**
 * Which model, which data, how it is scored, and where results go; without model and data, what
 * comes along.
 */
final class DataArguments {
  static final String NOTHING_TO_CHOOSE =
      "--model_name_or_path is missing: without a model and data, there is nothing to choose";

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
      names = "--output_dir",
      paramLabel = "FOLDER",
      description =
          "where results go; those of an earlier run are replaced (default with no model and data:"
              + " bertology-results)")
  private Optional<Path> outputDir = Optional.empty();

  @Mixin private DocumentOptions documents;

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

  /** Whether the model and the data are those that come along. */
  boolean isEmbedded() {
    boolean noTask = task.isEmpty() || isLanguageModel();
    return model.isEmpty() && noTask && dataDir.isEmpty() && table().isEmpty();
  }

  /** The folder or file of the model, unless it comes along. */
  Path model() {
    return model.orElseThrow();
  }

  /** Where results go. */
  Path outputDir() {
    return outputDir.orElse(Path.of("bertology-results"));
  }

  Optional<Integer> batchSize() {
    return batchSize;
  }

  /**
   * The task for a loaded model.
   *
   * @param tokensPerBatch unless the number of examples was given
   */
  Task task(Model loaded, int tokensPerBatch) {
    return isLanguageModel()
        ? languageTask(loaded, tokensPerBatch)
        : labelledTask(loaded, tokensPerBatch);
  }

  private Optional<Table> table() {
    return Optional.ofNullable(givenTable);
  }

  boolean isLanguageModel() {
    return task.map(TaskName::isLanguageModel).orElse(false);
  }

  private Task labelledTask(Model loaded, int tokensPerBatch) {
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
        TextBatches.of(
            model.orElseThrow(),
            classifier,
            some.data(),
            maxSequenceLength,
            batchSize,
            tokensPerBatch));
  }

  private GlueTask glue() {
    return task.flatMap(TaskName::glue).orElseThrow();
  }

  private Task languageTask(Model loaded, int tokensPerBatch) {
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
            .orElseGet(() -> some.labelledBatchesOfTokens(tokensPerBatch));
    return Task.ofDocuments(
        given.file, some, batches, metricName.orElse(TokenPredictions.LOG_PERPLEXITY));
  }

  private static DatasetReader reader(Table table, ModelConfig classifier) {
    DatasetReader.Builder reader =
        DatasetReader.builder().text(table.text).label(table.label).labelsOf(classifier);
    table.pair.ifPresent(reader::pair);
    return reader.build();
  }

  /** Throws what is wrong with them, and where the results of a given model have no place. */
  void checkUsage(CommandSpec spec) {
    documents.checkUsage(spec);
    Usage.require(
        isLanguageModel() || !documents.given(),
        spec,
        "--block_size, --stride, --token_ids and --pad_token_id are of the task %s",
        Task.LANGUAGE_MODEL);
    if (isEmbedded()) {
      Usage.require(
          metricName.isEmpty()
              && batchSize.isEmpty()
              && maxSequenceLength.isEmpty()
              && dataSubset == ALL_EXAMPLES
              && !documents.given(),
          spec,
          NOTHING_TO_CHOOSE);
      return;
    }
    Usage.require(model.isPresent(), spec, "--model_name_or_path is missing");
    Usage.require(outputDir.isPresent(), spec, "--output_dir is missing");
    if (isLanguageModel()) {
      Usage.require(
          table().isPresent() && dataDir.isEmpty(),
          spec,
          "--task_name %s needs the texts: --input",
          Task.LANGUAGE_MODEL);
    } else {
      Usage.require(
          table().isPresent()
              ? task.isEmpty() && dataDir.isEmpty()
              : task.isPresent() && dataDir.isPresent(),
          spec,
          "either --task_name and --data_dir, or --input, must be given");
    }
    Usage.require(
        dataSubset == ALL_EXAMPLES || dataSubset > 0,
        spec,
        "--data_subset is %d, expected more than 0, or %d for all",
        dataSubset,
        ALL_EXAMPLES);
    requirePositive(spec, "--max_seq_length", maxSequenceLength);
    requirePositive(spec, "--batch_size", batchSize);
    try {
      metricName.ifPresent(this::checkMetric);
    } catch (BertologyException e) {
      Usage.require(false, spec, "--metric_name: %s", e.getMessage());
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

  private static void requirePositive(CommandSpec spec, String option, Optional<Integer> value) {
    Usage.require(
        value.orElse(1) > 0, spec, "%s is %d, expected more than 0", option, value.orElse(1));
  }
}
