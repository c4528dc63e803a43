package org.bertology4j.cli;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.apache.commons.csv.CSVFormat;
import org.apache.commons.csv.CSVPrinter;
import org.bertology4j.Batch;
import org.bertology4j.BertologyException;
import org.bertology4j.HeadAblation;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadScores;
import org.bertology4j.HeadShapley;
import org.bertology4j.Heads;
import org.bertology4j.MaskScorer;
import org.bertology4j.MaskSweep;
import org.bertology4j.Model;
import org.bertology4j.ModelReplicas;
import org.bertology4j.checkpoint.AtomicFiles;

/** {@code bertology sweep} on a model and a data set. */
final class SweepRun {
  /** What was computed so far; it goes when there are results. */
  static final String UNFINISHED = "sweep.jsonl";

  private final ModelReplicas models;
  private final Task task;
  private final Options options;
  private final Results results;
  private final PrintWriter out;
  private final MaskScorer scorer;
  private Optional<Progress<Batch>> progress = Optional.empty();
  private String title = "";

  /** How it is swept. */
  record Options(
      SweepCommand.Kind kind,
      SweepCommand.Value value,
      int permutations,
      Optional<Double> tolerance,
      long seed,
      boolean resume) {}

  SweepRun(ModelReplicas models, Task task, Options options, Results results, PrintWriter out) {
    this.models = models;
    this.task = task;
    this.options = options;
    this.results = results;
    this.out = out;
    scorer = options.value() == SweepCommand.Value.LOSS ? MaskScorer.meanLoss() : task.scorer();
  }

  /**
   * Runs it.
   *
   * @param path the name of the model
   */
  void run(Path path) {
    Model model = models.first();
    Path file = results.unfinished(UNFINISHED);
    BertologyException.check(
        options.resume() || !Files.exists(file),
        "%s is there: a sweep was interrupted; --resume goes on with it, or delete the file",
        file);
    out.println(Devices.description(models));
    out.println("dtype: " + model.dtype());
    out.println("model: " + path.getFileName() + " (" + model.config() + ")");
    out.println("data: " + task.data());
    out.println();
    out.flush();
    results
        .put("model", path.toString())
        .put("task", task.name())
        .put("data", task.source().toString())
        .put("device", Devices.description(models).lines().toList())
        .put("dtype", model.dtype().toString())
        .put("kind", options.kind().toString())
        .put("value", scorer.name());
    title = options.kind().toString();
    MaskSweep sweep =
        MaskSweep.of(models, task.batches(), scorer)
            .savingTo(file, options.kind() + ", seed " + options.seed())
            .through(this::shown);
    long start = System.nanoTime();
    try {
      switch (options.kind()) {
        case ABLATION -> ablate(sweep, HeadAblation.Kind.SINGLE_HEAD);
        case ALL_BUT_ONE -> ablate(sweep, HeadAblation.Kind.ALL_BUT_ONE);
        case CURVE -> curve(sweep);
        case SHAPLEY -> shapley(sweep);
      }
    } catch (BertologyException e) {
      throw e.kind() == BertologyException.Kind.INTERRUPTED
          ? new BertologyException(
              e.kind(), "interrupted; the same command with --resume goes on from " + file, e)
          : e;
    } finally {
      progress.ifPresent(Progress::close);
    }
    double seconds = (System.nanoTime() - start) * 1e-9;
    results.put("seconds", seconds).write();
    delete(file);
    out.printf(Locale.ROOT, "%.1f s; results are in %s%n", seconds, results.folder());
  }

  private Iterable<Batch> shown(List<Batch> batches) {
    Progress<Batch> next = Progress.over(title, batches);
    progress = Optional.of(next);
    return next;
  }

  private static void delete(Path file) {
    try {
      Files.deleteIfExists(file);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be deleted: %s", file, e);
    }
  }

  private void ablate(MaskSweep sweep, HeadAblation.Kind kind) {
    HeadAblation.Result result = HeadAblation.measure(sweep, kind);
    boolean single = kind == HeadAblation.Kind.SINGLE_HEAD;
    HeadScores changes = result.changes();
    Tables.print(
        out,
        String.format(
            Locale.ROOT,
            "Change of the %s of %.5f %s",
            scorer.name(),
            result.whole(),
            single ? "without the head" : "with the head alone in its layer"),
        changes);
    out.println("best of each layer:");
    List<String> best = new ArrayList<>();
    for (Heads.Head head : result.best()) {
      best.add(head.layer() + ":" + head.head());
      out.printf(
          Locale.ROOT,
          "%d:%d %+.5f%n",
          head.layer(),
          head.head(),
          changes.get(head.layer(), head.head()));
    }
    out.println();
    Npy.write(results.file(Results.SCORES), result.scores());
    Npy.write(results.file(Results.CHANGES), changes);
    List<Object[]> rows = new ArrayList<>();
    for (int l = 0; l < changes.layers(); l++) {
      for (int h = 0; h < changes.heads(); h++) {
        if (changes.has(l, h)) {
          rows.add(new Object[] {l, h, result.scores().get(l, h), changes.get(l, h)});
        }
      }
    }
    writeTable(rows, "layer", "head", "score", "change");
    results
        .put("score", result.whole())
        .put("higher_is_better", result.higherIsBetter())
        .put("best_of_each_layer", best)
        .put("scores", rowsOf(result.scores()))
        .put("changes", rowsOf(changes));
  }

  private void shapley(MaskSweep sweep) {
    HeadShapley shapley = HeadShapley.of(options.permutations()).seed(options.seed());
    if (options.tolerance().isPresent()) {
      shapley = shapley.tolerance(options.tolerance().get());
    }
    HeadShapley.Result result =
        shapley.measure(
            sweep, order -> title = "shapley " + (order + 1) + "/" + options.permutations());
    HeadScores values = result.values();
    HeadScores errors = result.standardErrors();
    Tables.print(out, "Shapley values of the " + scorer.name(), values);
    Tables.print(out, "Standard errors", errors);
    out.printf(
        Locale.ROOT,
        "%s: %.5f with all heads, %.5f without; %d orders, %d left before their end%n",
        scorer.name(),
        result.whole(),
        result.empty(),
        result.permutations(),
        result.truncated());
    Npy.write(results.file(Results.SHAPLEY), values);
    Npy.write(results.file(Results.SHAPLEY_ERRORS), errors);
    List<Object[]> rows = new ArrayList<>();
    for (int l = 0; l < values.layers(); l++) {
      for (int h = 0; h < values.heads(); h++) {
        if (values.has(l, h)) {
          rows.add(new Object[] {l, h, values.get(l, h), errors.get(l, h)});
        }
      }
    }
    writeTable(rows, "layer", "head", "shapley", "standard_error");
    results
        .put("score", result.whole())
        .put("score_without_heads", result.empty())
        .put("permutations", result.permutations())
        .put("truncated", result.truncated())
        .put("seed", options.seed())
        .put("shapley", rowsOf(values))
        .put("standard_errors", rowsOf(errors));
    options.tolerance().ifPresent(tolerance -> results.put("tolerance", tolerance));
  }

  private void curve(MaskSweep sweep) {
    TaskPass pass = new TaskPass(models, task.batches(), task.predictions());
    HeadImportance importance =
        pass.measure("importance", new HeadImportance.Accumulator(models.first())).importance();
    HeadScores scores =
        new RunCommand.ImportanceOptions(HeadImportance.Kind.PAPER, true, true).scores(importance);
    PruningCurves curves = PruningCurves.ofThreeOrders(sweep, scores, options.seed());
    curves.print(
        out, String.format("The %s of these data without a part of the heads", scorer.name()));
    Npy.write(results.file(Results.IMPORTANCE), scores);
    List<Object[]> rows = new ArrayList<>();
    for (PruningCurves.Curve curve : curves.curves()) {
      for (int i = 0; i < curves.fractions().size(); i++) {
        rows.add(
            new Object[] {
              curve.name(),
              curves.fractions().get(i),
              curve.means().get(i),
              curve.least().get(i),
              curve.greatest().get(i)
            });
      }
    }
    writeTable(rows, "order", "fraction", "mean", "least", "greatest");
    CurveReport.write(
        results.file(Results.REPORT),
        "Masking the attention heads of " + models.first().config(),
        task.data() + "; importance was measured on the same data",
        scorer.name(),
        curves,
        scores);
    results
        .put("seed", options.seed())
        .put("fractions", curves.fractions())
        .put("scores", curves.means());
  }

  private void writeTable(List<Object[]> rows, String... header) {
    CSVFormat format = CSVFormat.RFC4180.builder().setHeader(header).setRecordSeparator('\n').get();
    StringWriter text = new StringWriter();
    try (CSVPrinter printer = new CSVPrinter(text, format)) {
      for (Object[] row : rows) {
        printer.printRecord(row);
      }
    } catch (IOException e) {
      throw new IllegalStateException("writing to memory does not fail", e);
    }
    AtomicFiles.writeString(results.file(Results.TABLE), text.toString());
  }

  /** Rows of numbers; heads without one become null in JSON. */
  private static List<List<Double>> rowsOf(HeadScores scores) {
    List<List<Double>> rows = new ArrayList<>();
    for (double[] layer : scores.toArray()) {
      rows.add(Arrays.stream(layer).boxed().toList());
    }
    return rows;
  }
}
