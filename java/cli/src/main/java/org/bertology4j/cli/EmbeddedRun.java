package org.bertology4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.bertology4j.Batch;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadScores;
import org.bertology4j.Model;
import org.bertology4j.ModelReplicas;
import org.bertology4j.text.Batches;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.Metric;
import org.bertology4j.text.Tokenizer;
import org.bertology4j.text.UciSentences;

/**
 * {@code bertology run} without arguments: the whole work on a model and data that come along. A
 * linear classifier is trained on the frozen model's sentence vectors, the heads' importance is
 * measured on the training sentences, and heads are then pruned in three orders while the test
 * sentences are scored.
 */
final class EmbeddedRun {
  private static final String MODEL = "bge-small-en-v1.5";

  private static final String ACCURACY = Metric.ACC.metricName();
  private static final int TOKENS_PER_BATCH = 4096;

  private final ModelArguments arguments;
  private final RunCommand.ImportanceOptions options;
  private final Results results;
  private final long seed;
  private final PrintWriter out;

  EmbeddedRun(
      ModelArguments arguments,
      RunCommand.ImportanceOptions options,
      Results results,
      long seed,
      PrintWriter out) {
    this.arguments = arguments;
    this.options = options;
    this.results = results;
    this.seed = seed;
    this.out = out;
  }

  /** The folder of the model that comes along. */
  static Path modelFolder() {
    return ModelArguments.folderOf(MODEL);
  }

  /**
   * The task of the test sentences.
   *
   * @param models bge-small, which gets the classifier that is trained on the other sentences
   */
  static Task testTask(ModelReplicas models, int tokensPerBatch) {
    UciSentences sentences = UciSentences.load();
    try (Tokenizer tokenizer = Tokenizer.load(modelFolder())) {
      List<Batch> train = Batches.ofTokens(tokenizer, sentences.train(), TOKENS_PER_BATCH);
      SentenceClassifier.train(models, train, sentences.train());
      LabelledTask task =
          new LabelledTask(
              "sentiment", modelFolder(), sentences.test(), Map.of(ACCURACY, Metric.ACC), ACCURACY);
      return task.task(Batches.ofTokens(tokenizer, sentences.test(), tokensPerBatch));
    }
  }

  void run() {
    UciSentences sentences = UciSentences.load();
    Path folder = modelFolder();
    try (ModelReplicas models = arguments.load(folder);
        Tokenizer tokenizer = Tokenizer.load(folder)) {
      Model model = models.first();
      out.println(Devices.description(models));
      out.println("dtype: " + model.dtype());
      out.println("model: " + MODEL + " (" + model.config() + ")");
      out.println("data: " + sentences.train() + "; " + sentences.test());
      out.println();
      out.flush();
      List<Batch> train = Batches.ofTokens(tokenizer, sentences.train(), TOKENS_PER_BATCH);
      SentenceClassifier.train(models, train, sentences.train());

      TaskPass onTrain = pass(models, sentences.train(), train);
      HeadImportance.Accumulator accumulator = new HeadImportance.Accumulator(model);
      if (options.kind() == HeadImportance.Kind.HF) {
        accumulator.withHf(1);
      }
      long start = System.nanoTime();
      HeadImportance importance =
          onTrain.measure("importance", accumulator.withEntropies()).importance();
      double seconds = (System.nanoTime() - start) * 1e-9;
      HeadScores scores = options.scores(importance);
      Tables.print(out, "Head importance scores", scores);
      Tables.printRanks(out, "Head ranks, 0 for the most important", scores);
      out.printf(
          Locale.ROOT,
          "importance of %d heads from %d sentences in %.1f s%n%n",
          scores.ascending().size(),
          importance.examples(),
          seconds);
      out.flush();
      Npy.write(results.file("head_importance.npy"), scores);
      Npy.write(results.file("attn_entropy.npy"), importance.entropy());
      results
          .put("model", MODEL)
          .put("data", "UCI sentiment labelled sentences")
          .put("device", Devices.description(models).lines().toList())
          .put("dtype", model.dtype().toString())
          .put("importance", options.kind().name().toLowerCase(Locale.ROOT))
          .put("importance_seconds", seconds)
          .write();

      List<Batch> test = Batches.ofTokens(tokenizer, sentences.test(), TOKENS_PER_BATCH);
      // Heads go from the first model only: what is left of it is scored there.
      prune(model, pass(ModelReplicas.of(model), sentences.test(), test), scores);
    }
    out.println("results and the chart (report.html) are in " + results.folder());
    out.flush();
  }

  private static TaskPass pass(ModelReplicas models, Dataset data, List<Batch> batches) {
    Map<String, Metric> metrics = Map.of(ACCURACY, Metric.ACC);
    return new TaskPass(models, batches, new LabelPredictions(data, metrics));
  }

  private void prune(Model model, TaskPass onTest, HeadScores scores) {
    PruningCurves curves =
        PruningCurves.ofThreeOrders(
            model, scores, seed, mask -> onTest.scores("pruning", mask).get(ACCURACY));
    curves.print(out, "Accuracy on the test sentences without a part of the heads");
    results.put("fractions", curves.fractions()).put("accuracy", curves.means()).write();
    CurveReport.write(
        results.file("report.html"),
        "Pruning the attention heads of " + MODEL,
        "600 test sentences of the UCI Sentiment Labelled Sentences; classifier: logistic"
            + " regression on frozen sentence vectors, not retrained after pruning",
        "accuracy",
        curves,
        scores);
  }
}
