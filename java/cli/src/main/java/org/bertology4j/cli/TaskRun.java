package org.bertology4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import org.bertology4j.Evaluation;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadMask;
import org.bertology4j.MaskingSearch;
import org.bertology4j.Model;
import org.bertology4j.ModelReplicas;

/** {@code bertology run} on a model and a data set: importance, and then masking and pruning. */
final class TaskRun {
  private final ModelReplicas models;

  /** The first of them, which all are like. */
  private final Model model;

  private final Task task;
  private final RunCommand.ImportanceOptions options;
  private final int hfBatchSize;
  private final Results results;
  private final PrintWriter out;
  private final TaskPass pass;

  /** How far heads are masked, and where the pruned model goes. */
  record Masking(double threshold, double amount, Optional<Path> save) {}

  /**
   * A run.
   *
   * @param hfBatchSize the batch size that {@link HeadImportance.Kind#HF} is for
   */
  TaskRun(
      ModelReplicas models,
      Task task,
      RunCommand.ImportanceOptions options,
      int hfBatchSize,
      Results results,
      PrintWriter out) {
    this.models = models;
    this.model = models.first();
    this.task = task;
    this.options = options;
    this.hfBatchSize = hfBatchSize;
    this.results = results;
    this.out = out;
    pass = new TaskPass(models, task.batches(), task.predictions());
  }

  /**
   * Runs it.
   *
   * @param path the name of the model
   */
  void run(Path path, Optional<Masking> masking) {
    out.println(Devices.description(models));
    out.println("dtype: " + model.dtype());
    out.println("model: " + path + " (" + model.config() + ")");
    out.println("data: " + task.source() + " (" + task.data() + ")");
    out.println();
    results
        .put("model", path.toString())
        .put("task", task.name())
        .put("data", task.source().toString())
        .put("device", Devices.description(models).lines().toList())
        .put("dtype", model.dtype().toString());
    Evaluation whole = measureWhole();
    masking.ifPresent(wanted -> maskAndPrune(wanted, whole));
    out.println("results are in " + results.folder());
  }

  private Evaluation measureWhole() {
    long start = System.nanoTime();
    TaskPass.Result result = pass.measure("importance", accumulator().withEntropies());
    double seconds = (System.nanoTime() - start) * 1e-9;
    HeadImportance importance = result.importance();
    Evaluation evaluation = evaluation(result);
    Map<String, Double> measured = result.scores();
    Npy.write(results.file(Results.ENTROPY), importance.entropy());
    Npy.write(results.file(Results.IMPORTANCE), evaluation.importance());
    results
        .put("examples", importance.examples())
        .put("tokens", importance.tokens())
        .put("importance", options.kind().name().toLowerCase(Locale.ROOT));
    if (options.kind() == HeadImportance.Kind.HF) {
      results.put("hf_batch_size", hfBatchSize);
    }
    results
        .put("normalized_by_layer", options.byLayer())
        .put("normalized_globally", options.globally())
        .put("loss", importance.meanLoss())
        .put("scores", measured)
        .put("metric", task.metricName())
        .put("importance_seconds", seconds)
        .write();
    Tables.print(out, "Attention entropies", importance.entropy());
    Tables.print(out, "Head importance scores", evaluation.importance());
    Tables.printRanks(out, "Head ranks, 0 for the most important", evaluation.importance());
    measured.forEach((name, score) -> out.printf(Locale.ROOT, "%s: %.5f%n", name, score));
    out.printf(
        Locale.ROOT,
        "%d examples, %d tokens, %.1f examples/s%n",
        importance.examples(),
        importance.tokens(),
        importance.examples() / seconds);
    return evaluation;
  }

  private HeadImportance.Accumulator accumulator() {
    HeadImportance.Accumulator accumulator = new HeadImportance.Accumulator(model);
    return options.kind() == HeadImportance.Kind.HF ? accumulator.withHf(hfBatchSize) : accumulator;
  }

  private Evaluation evaluation(TaskPass.Result result) {
    return new Evaluation(
        task.oriented(result.scores().get(task.metricName())), options.scores(result.importance()));
  }

  private Evaluation evaluate(HeadMask mask) {
    models.forEach(each -> each.maskHeads(mask));
    return evaluation(pass.measure("masking", accumulator()));
  }

  private void maskAndPrune(Masking masking, Evaluation whole) {
    HeadMask start = model.headMask();
    int heads = whole.importance().ascending().size();
    List<Map<String, Object>> steps = new ArrayList<>();
    out.println();
    MaskingSearch.Result found =
        new MaskingSearch(masking.threshold(), masking.amount())
            .run(
                start,
                mask -> mask.equals(start) ? whole : evaluate(mask),
                step -> {
                  int masked = step.mask().masked().size();
                  double score = task.oriented(step.score());
                  out.printf(
                      Locale.ROOT,
                      "masked %d of %d heads: %s %.5f%s%n",
                      masked,
                      heads,
                      task.metricName(),
                      score,
                      step.kept() ? "" : ", beyond the threshold");
                  Map<String, Object> entry = new LinkedHashMap<>();
                  entry.put("masked", masked);
                  entry.put("score", score);
                  entry.put("kept", step.kept());
                  steps.add(entry);
                });
    Npy.write(results.file(Results.MASK), found.mask().toArray());
    results
        .put("masking_threshold", masking.threshold())
        .put("masking_amount", masking.amount())
        .put("masking_steps", steps)
        .put("masked_heads", found.mask().masked().toString())
        .put("masked_score", task.oriented(found.score()))
        .write();
    prune(masking, found.mask());
  }

  private void prune(Masking masking, HeadMask mask) {
    models.forEach(each -> each.maskHeads(HeadMask.ones(each.config())));
    final double wholeSpeed = pass.examplesPerSecond();
    models.forEach(each -> each.maskHeads(mask));
    final double maskedScore = pass.scores("masked", mask).get(task.metricName());
    final double maskedSpeed = pass.examplesPerSecond();
    final long parametersBefore = model.parameterCount();
    final long bytesBefore = model.memoryBytes();
    models.forEach(each -> each.pruneHeads(mask.masked()));
    final double prunedScore = pass.scores("pruned", model.headMask()).get(task.metricName());
    final double prunedSpeed = pass.examplesPerSecond();
    final long parameters = model.parameterCount();
    final long bytes = model.memoryBytes();
    out.println();
    out.println("pruned heads: " + (mask.isOnes() ? "none" : mask.masked()));
    out.printf(
        Locale.ROOT,
        "parameters: %,d, before %,d (%.1f %%)%n",
        parameters,
        parametersBefore,
        100.0 * parameters / parametersBefore);
    out.printf(Locale.ROOT, "memory: %.2f MB, before %.2f MB%n", bytes * 1e-6, bytesBefore * 1e-6);
    out.printf(
        Locale.ROOT,
        "%s masked: %.5f, pruned: %.5f%n",
        task.metricName(),
        maskedScore,
        prunedScore);
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
        .put("bytes_pruned", bytes)
        .put("pruned_score", prunedScore)
        .put("examples_per_second_whole", wholeSpeed)
        .put("examples_per_second_masked", maskedSpeed)
        .put("examples_per_second_pruned", prunedSpeed)
        .write();
    masking.save().ifPresent(this::save);
  }

  private void save(Path folder) {
    model.save(folder);
    out.println("the pruned model is in " + folder);
    results.put("pruned_model", folder.toString()).write();
  }
}
