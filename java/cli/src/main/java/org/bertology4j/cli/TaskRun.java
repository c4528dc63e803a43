package org.bertology4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import org.bertology4j.Batch;
import org.bertology4j.BertologyException;
import org.bertology4j.Evaluation;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadMask;
import org.bertology4j.HeadScores;
import org.bertology4j.Heads;
import org.bertology4j.MaskingSearch;
import org.bertology4j.Model;
import org.bertology4j.text.Batches;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.Labels;
import org.bertology4j.text.Metric;
import org.bertology4j.text.Tokenizer;
import org.bertology4j.text.TokenizerOptions;

/** {@code bertology run} on a model and a data set: importance, and then masking and pruning. */
final class TaskRun {
  private static final int TOKENS_PER_BATCH = 4096;

  private final Model model;
  private final Path modelPath;
  private final Task task;
  private final RunCommand.ImportanceOptions options;
  private final OptionalInt batchSize;
  private final Results results;
  private final PrintWriter out;
  private final TaskPass pass;

  /**
   * Labelled data and how it is scored.
   *
   * @param metrics by name, all of which are reported
   * @param metric the one that counts
   */
  record Task(String name, Dataset data, Map<String, Metric> metrics, String metric) {
    Metric wanted() {
      return metrics.get(metric);
    }
  }

  /** How far heads are masked, and where the pruned model goes. */
  record Masking(double threshold, double amount, Optional<Path> save) {}

  TaskRun(
      Model model,
      Path modelPath,
      Task task,
      OptionalInt maxLength,
      OptionalInt batchSize,
      RunCommand.ImportanceOptions options,
      Results results,
      PrintWriter out) {
    this.model = model;
    this.modelPath = modelPath;
    this.task = fitted(task, model);
    this.options = options;
    this.batchSize = batchSize;
    this.results = results;
    this.out = out;
    TokenizerOptions.Builder tokenizing =
        TokenizerOptions.builder()
            .maxLength(maxLength.orElse(model.config().maxPositionEmbeddings()));
    try (Tokenizer tokenizer = Tokenizer.load(modelPath, tokenizing.build())) {
      List<Batch> batches =
          batchSize.isPresent()
              ? Batches.ofExamples(tokenizer, this.task.data(), batchSize.getAsInt())
              : Batches.ofTokens(tokenizer, this.task.data(), TOKENS_PER_BATCH);
      pass = new TaskPass(model, this.task.data(), batches);
    }
  }

  /** The data with its classes numbered as the model's, which the names tell if they are names. */
  private static Task fitted(Task task, Model model) {
    Labels ofModel = Labels.of(model.config());
    Dataset data = task.data();
    boolean regression = data.labels().kind() == Labels.Kind.REGRESSION;
    BertologyException.check(
        regression == model.config().regression(),
        "%s: labels are %s, the model's are %s",
        data.name(),
        data.labels(),
        ofModel);
    if (regression) {
      return task;
    }
    BertologyException.check(
        data.labels().count() <= model.config().labels().size(),
        "%s has %d classes (%s), the model's classifier has %d outputs (%s)",
        data.name(),
        data.labels().count(),
        data.labels(),
        model.config().labels().size(),
        ofModel);
    boolean named =
        data.labels().names().stream()
            .allMatch(
                name -> ofModel.names().stream().anyMatch(other -> other.equalsIgnoreCase(name)));
    return named
        ? new Task(task.name(), data.withClassesOf(ofModel), task.metrics(), task.metric())
        : task;
  }

  void run(Optional<Masking> masking) {
    out.println(model.device().description());
    out.println("dtype: " + model.dtype());
    out.println("model: " + modelPath + " (" + model.config() + ")");
    out.println("data: " + task.data());
    out.println();
    results
        .put("model", modelPath.toString())
        .put("task", task.name())
        .put("device", model.device().description().lines().toList())
        .put("dtype", model.dtype().toString());

    long start = System.nanoTime();
    TaskPass.Result first = pass.measure("importance", accumulator().withEntropies());
    double seconds = (System.nanoTime() - start) * 1e-9;
    HeadImportance importance = first.importance();
    HeadScores scores = normalized(importance);
    Npy.write(results.file("attn_entropy.npy"), importance.entropy());
    Npy.write(results.file("head_importance.npy"), scores);
    Map<String, Double> measured = first.predictions().scores(task.metrics());
    results
        .put("examples", importance.examples())
        .put("tokens", importance.tokens())
        .put("importance", options.kind().name().toLowerCase(Locale.ROOT))
        .put("normalized_by_layer", options.byLayer())
        .put("normalized_globally", options.globally())
        .put("loss", importance.meanLoss())
        .put("scores", measured)
        .put("metric", task.metric())
        .put("importance_seconds", seconds)
        .write();

    Tables.print(out, "Attention entropies", importance.entropy());
    Tables.print(out, "Head importance scores", scores);
    Tables.printRanks(out, "Head ranks, 0 for the most important", scores);
    measured.forEach((name, score) -> out.printf(Locale.ROOT, "%s: %.5f%n", name, score));
    out.printf(
        Locale.ROOT,
        "%d examples, %d tokens, %.1f examples/s%n",
        importance.examples(),
        importance.tokens(),
        importance.examples() / seconds);
    masking.ifPresent(wanted -> maskAndPrune(wanted));
    out.println("results are in " + results.folder());
    out.flush();
  }

  private HeadImportance.Accumulator accumulator() {
    HeadImportance.Accumulator accumulator = new HeadImportance.Accumulator(model);
    return options.kind() == HeadImportance.Kind.HF
        ? accumulator.withHf(batchSize.orElse(1))
        : accumulator;
  }

  private HeadScores normalized(HeadImportance importance) {
    HeadScores scores = importance.scores(options.kind());
    if (options.byLayer()) {
      scores = scores.normalizedByLayer();
    }
    return options.globally() ? scores.normalizedGlobally() : scores;
  }

  private Evaluation evaluate(HeadMask mask) {
    model.maskHeads(mask);
    TaskPass.Result result = pass.measure("masking", accumulator());
    return new Evaluation(
        result.predictions().score(task.wanted()), normalized(result.importance()));
  }

  private void maskAndPrune(Masking masking) {
    HeadMask start = model.headMask();
    int present = HeadMask.ones(model.config()).layers() * model.config().numAttentionHeads();
    int heads = present - model.prunedHeads().size();
    List<Map<String, Object>> steps = new ArrayList<>();
    out.println();
    MaskingSearch.Result found =
        new MaskingSearch(masking.threshold(), masking.amount())
            .run(
                start,
                this::evaluate,
                step -> {
                  int masked = step.mask().masked().size();
                  out.printf(
                      Locale.ROOT,
                      "masked %d of %d heads: %s %.5f%s%n",
                      masked,
                      heads,
                      task.metric(),
                      step.score(),
                      step.kept() ? "" : ", below the threshold");
                  out.flush();
                  Map<String, Object> entry = new LinkedHashMap<>();
                  entry.put("masked", masked);
                  entry.put("score", step.score());
                  entry.put("kept", step.kept());
                  steps.add(entry);
                });
    Npy.write(results.file("head_mask.npy"), found.mask().toArray());
    Heads masked = found.mask().masked();
    results
        .put("masking_threshold", masking.threshold())
        .put("masking_amount", masking.amount())
        .put("masking_steps", steps)
        .put("masked_heads", masked.toString())
        .put("masked_score", found.score())
        .write();
    prune(masking, found.mask(), masked);
  }

  private void prune(Masking masking, HeadMask mask, Heads masked) {
    model.maskHeads(HeadMask.ones(model.config()));
    final double wholeSpeed = pass.examplesPerSecond();
    model.maskHeads(mask);
    final double maskedScore = pass.predict("masked", model.headMask()).score(task.wanted());
    final double maskedSpeed = pass.examplesPerSecond();
    long parametersBefore = model.parameterCount();
    long bytesBefore = model.memoryBytes();
    model.pruneHeads(masked);
    double prunedScore = pass.predict("pruned", model.headMask()).score(task.wanted());
    double prunedSpeed = pass.examplesPerSecond();
    long parameters = model.parameterCount();
    out.println();
    out.printf("pruned heads: %s%n", masked);
    out.printf(
        Locale.ROOT,
        "parameters: %,d, before %,d (%.1f %%)%n",
        parameters,
        parametersBefore,
        100.0 * parameters / parametersBefore);
    out.printf(
        Locale.ROOT, "%s masked: %.5f, pruned: %.5f%n", task.metric(), maskedScore, prunedScore);
    out.printf(
        Locale.ROOT,
        "forward, examples/s: whole %.1f, masked %.1f, pruned %.1f (pruned / whole %.2f)%n",
        wholeSpeed,
        maskedSpeed,
        prunedSpeed,
        prunedSpeed / wholeSpeed);
    results
        .put("parameters_before", parametersBefore)
        .put("parameters_pruned", parameters)
        .put("bytes_before", bytesBefore)
        .put("bytes_pruned", model.memoryBytes())
        .put("pruned_score", prunedScore)
        .put("examples_per_second_whole", wholeSpeed)
        .put("examples_per_second_masked", maskedSpeed)
        .put("examples_per_second_pruned", prunedSpeed);
    masking
        .save()
        .ifPresent(
            folder -> {
              model.save(folder);
              out.println("the pruned model is in " + folder);
              results.put("pruned_model", folder.toString());
            });
    results.write();
  }
}
