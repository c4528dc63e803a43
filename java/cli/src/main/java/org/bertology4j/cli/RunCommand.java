package org.bertology4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import org.bertology4j.HeadImportance;
import org.bertology4j.Model;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.DatasetReader;
import org.bertology4j.text.GlueTask;
import org.bertology4j.text.Labels;
import org.bertology4j.text.Metric;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/**
 * {@code bertology run}: what run_bertology.py does, under its options' names; without a model and
 * data, the same on the model and the sentences that come along.
 */
@Command(
    name = "run",
    description = {
      "Head importance on a labelled data set; with --try_masking, masks and prunes the least"
          + " important heads.",
      "Without a model and data: bge-small and 3000 labelled sentences, with a pruning curve."
    })
final class RunCommand implements Callable<Integer> {
  @Option(
      names = "--model_name_or_path",
      paramLabel = "PATH",
      description = "folder or file of the model, a classifier")
  private Optional<Path> model = Optional.empty();

  @Option(
      names = "--task_name",
      paramLabel = "TASK",
      description = "GLUE task: cola, sst-2, mrpc, sts-b, qqp, mnli, mnli-mm, qnli, rte, wnli")
  private Optional<String> taskName = Optional.empty();

  @Option(
      names = "--data_dir",
      paramLabel = "FOLDER",
      description = "folder with the task's dev file")
  private Optional<Path> dataDir = Optional.empty();

  @Option(
      names = "--input",
      paramLabel = "FILE",
      description = "instead of a task: .tsv, .csv or .jsonl with named columns")
  private Optional<Path> input = Optional.empty();

  @ArgGroup(exclusive = false)
  private Columns columns = new Columns();

  @Option(
      names = "--output_dir",
      paramLabel = "FOLDER",
      description = "where results go (default with no model and data: bertology-results)")
  private Optional<Path> outputDir = Optional.empty();

  @Option(
      names = "--data_subset",
      defaultValue = "-1",
      description = "only the first so many examples")
  private int dataSubset;

  @Option(names = "--try_masking", description = "mask, then prune, the least important heads")
  private boolean tryMasking;

  @Option(
      names = "--masking_threshold",
      defaultValue = "0.9",
      description = "part of the score to keep (default: ${DEFAULT-VALUE})")
  private double maskingThreshold;

  @Option(
      names = "--masking_amount",
      defaultValue = "0.1",
      description = "part of all heads to mask at each step (default: ${DEFAULT-VALUE})")
  private double maskingAmount;

  @Option(
      names = "--metric_name",
      description = "score to keep (default: the task's own, such as acc, mcc for cola)")
  private Optional<String> metricName = Optional.empty();

  @Option(
      names = "--max_seq_length",
      description = "cut longer examples (default: what the model can take)")
  private OptionalInt maxSequenceLength = OptionalInt.empty();

  @Option(
      names = "--batch_size",
      description = {
        "examples of a batch (default: as many as run fastest);",
        "changes no result but that of --importance hf, where it is 1 by default"
      })
  private OptionalInt batchSize = OptionalInt.empty();

  @Option(
      names = "--seed",
      defaultValue = "1",
      description = "of random orders of heads (default: ${DEFAULT-VALUE})")
  private long seed;

  @Option(
      names = "--importance",
      defaultValue = "paper",
      description = {
        "paper (default), per_token, signed, squared, or hf: what run_bertology.py computes"
      })
  private String importance;

  @Option(
      names = "--dont_normalize_importance_by_layer",
      description = "do not divide each layer's importance by its length")
  private boolean notByLayer;

  @Option(
      names = "--dont_normalize_global_importance",
      description = "do not scale importance to 0 ... 1")
  private boolean notGlobally;

  @Option(
      names = "--save_pruned",
      paramLabel = "FOLDER",
      description = "with --try_masking: save the pruned model, as a Hugging Face folder")
  private Optional<Path> savePruned = Optional.empty();

  @Option(names = "--no_cuda", description = "the same as --device cpu")
  private boolean noCuda;

  @Mixin private ModelArguments arguments;
  @Spec private CommandSpec spec;

  /** Columns of --input. */
  static final class Columns {
    @Option(names = "--text_column", description = "default: sentence")
    Optional<String> text = Optional.empty();

    @Option(names = "--pair_column", description = "column of the second text")
    Optional<String> pair = Optional.empty();

    @Option(names = "--label_column", description = "default: label")
    Optional<String> label = Optional.empty();
  }

  /** What is normalised, and which definition is taken. */
  record ImportanceOptions(HeadImportance.Kind kind, boolean byLayer, boolean globally) {}

  @Override
  public Integer call() {
    PrintWriter out = spec.commandLine().getOut();
    ImportanceOptions options = new ImportanceOptions(kind(), !notByLayer, !notGlobally);
    if (noCuda) {
      arguments.withoutCuda();
    }
    if (model.isEmpty() && taskName.isEmpty() && dataDir.isEmpty() && input.isEmpty()) {
      Path folder = outputDir.orElse(Path.of("bertology-results"));
      new EmbeddedRun(arguments, options, new Results(folder), seed, out).run();
      return 0;
    }
    require(model.isPresent(), "--model_name_or_path is missing");
    require(outputDir.isPresent(), "--output_dir is missing");
    require(
        input.isPresent() != (taskName.isPresent() && dataDir.isPresent()),
        "either --task_name and --data_dir, or --input, must be given");
    require(
        maskingThreshold > 0 && maskingThreshold < 1,
        "--masking_threshold must be above 0 and below 1");
    require(maskingAmount > 0 && maskingAmount <= 1, "--masking_amount must be above 0, at most 1");
    require(savePruned.isEmpty() || tryMasking, "--save_pruned saves what --try_masking prunes");
    require(batchSize.isEmpty() || batchSize.getAsInt() > 0, "--batch_size must be above 0");
    try (Model loaded = Model.load(model.get(), arguments.options())) {
      TaskRun.Task task = task(loaded);
      new TaskRun(
              loaded,
              model.get(),
              task,
              maxSequenceLength,
              batchSize,
              options,
              new Results(outputDir.get()),
              out)
          .run(
              tryMasking
                  ? Optional.of(new TaskRun.Masking(maskingThreshold, maskingAmount, savePruned))
                  : Optional.empty());
    }
    return 0;
  }

  private void require(boolean ok, String text) {
    if (!ok) {
      throw new ParameterException(spec.commandLine(), text);
    }
  }

  private HeadImportance.Kind kind() {
    for (HeadImportance.Kind known : HeadImportance.Kind.values()) {
      if (known.name().equalsIgnoreCase(importance)) {
        return known;
      }
    }
    throw new ParameterException(
        spec.commandLine(),
        "--importance " + importance + ": expected paper, per_token, signed, squared or hf");
  }

  private TaskRun.Task task(Model loaded) {
    String name;
    Dataset data;
    Map<String, Metric> metrics;
    String metric;
    if (input.isPresent()) {
      DatasetReader.Builder reader =
          DatasetReader.builder()
              .text(columns.text.orElse("sentence"))
              .label(columns.label.orElse("label"))
              .labelsOf(loaded.config());
      columns.pair.ifPresent(reader::pair);
      data = reader.build().read(input.get());
      name = data.name();
      boolean classes = data.labels().kind() == Labels.Kind.CLASSES;
      Metric usual = classes ? Metric.ACC : Metric.CORR;
      Metric wanted = metricName.map(Metric::of).orElse(usual);
      metrics = Map.of(wanted.metricName(), wanted);
      metric = wanted.metricName();
    } else {
      GlueTask glue = GlueTask.of(taskName.orElseThrow());
      data = glue.read(dataDir.orElseThrow(), GlueTask.Split.DEV);
      name = glue.taskName();
      metrics = glue.metrics();
      metric = metricName.orElse(glue.defaultMetric());
      metrics = withWanted(metrics, metric, glue.metric(metric));
    }
    if (dataSubset > 0) {
      data = data.first(dataSubset);
    }
    return new TaskRun.Task(name, data, metrics, metric);
  }

  private static Map<String, Metric> withWanted(
      Map<String, Metric> metrics, String name, Metric wanted) {
    Map<String, Metric> all = new TreeMap<>(metrics);
    all.put(name, wanted);
    return all;
  }
}
