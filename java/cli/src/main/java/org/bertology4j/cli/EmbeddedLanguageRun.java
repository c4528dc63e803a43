package org.bertology4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.bertology4j.Batch;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadScores;
import org.bertology4j.Model;
import org.bertology4j.ModelReplicas;
import org.bertology4j.text.Documents;
import org.bertology4j.text.Tokenizer;

/**
 * {@code bertology run --task_name lm} without a model: the same on a small GPT-2 that comes along
 * with two texts that it was not trained on. The importance of its heads is measured on one, and
 * its perplexity on the other while heads are pruned in three orders.
 */
final class EmbeddedLanguageRun {
  private static final String MODEL = "kjv-gpt2";

  private final ModelArguments arguments;
  private final RunCommand.ImportanceOptions options;
  private final Results results;
  private final long seed;
  private final PrintWriter out;

  EmbeddedLanguageRun(
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

  /** The task of the test text. */
  static Task testTask(ModelReplicas models, int tokensPerBatch) {
    Path file = modelFolder().resolve("test.txt");
    int length = models.first().config().maxPositionEmbeddings();
    try (Tokenizer tokenizer = Tokenizer.load(modelFolder())) {
      Documents test = Documents.ofBlocks(file, tokenizer, length, length).predicted();
      return Task.ofDocuments(
          file,
          test,
          test.labelledBatchesOfTokens(tokensPerBatch),
          TokenPredictions.LOG_PERPLEXITY);
    }
  }

  void run() {
    Path folder = modelFolder();
    try (ModelReplicas models = arguments.load(folder);
        Tokenizer tokenizer = Tokenizer.load(folder)) {
      Model model = models.first();
      int length = model.config().maxPositionEmbeddings();
      Path file = folder.resolve("importance.txt");
      Documents measured = Documents.ofBlocks(file, tokenizer, length, length).predicted();
      Path testFile = folder.resolve("test.txt");
      Documents test = Documents.ofBlocks(testFile, tokenizer, length, length).predicted();
      out.println(Devices.description(models));
      out.println("dtype: " + model.dtype());
      out.println("model: " + MODEL + " (" + model.config() + ")");
      out.println("data: " + measured + "; " + test);
      out.println();
      results
          .put("model", MODEL)
          .put("task", Task.LANGUAGE_MODEL)
          .put("data", "King James Bible, chapters that the model was not trained on")
          .put("device", Devices.description(models).lines().toList())
          .put("dtype", model.dtype().toString());
      HeadScores scores = measure(model, pass(models, measured));
      // Heads go from the first model only: what is left of it is scored there.
      prune(model, pass(ModelReplicas.of(model), test), scores);
    }
    out.println("results and the chart (report.html) are in " + results.folder());
  }

  private static TaskPass pass(ModelReplicas models, Documents documents) {
    List<Batch> batches = documents.labelledBatchesOfTokens(TextBatches.TOKENS_PER_BATCH);
    return new TaskPass(models, batches, new TokenPredictions());
  }

  private HeadScores measure(Model model, TaskPass pass) {
    HeadImportance.Accumulator accumulator = new HeadImportance.Accumulator(model);
    if (options.kind() == HeadImportance.Kind.HF) {
      accumulator.withHf(1);
    }
    long start = System.nanoTime();
    HeadImportance importance =
        pass.measure("importance", accumulator.withEntropies()).importance();
    double seconds = (System.nanoTime() - start) * 1e-9;
    HeadScores scores = options.scores(importance);
    results.entropies(out, model.config(), importance);
    Tables.print(out, "Head importance scores", scores);
    Tables.printRanks(out, "Head ranks, 0 for the most important", scores);
    out.printf(
        Locale.ROOT,
        "importance of %d heads from %d tokens in %.1f s%n%n",
        scores.ascending().size(),
        importance.tokens(),
        seconds);
    Npy.write(results.file(Results.IMPORTANCE), scores);
    results
        .put("importance", options.kind().name().toLowerCase(Locale.ROOT))
        .put("importance_seconds", seconds)
        .write();
    return scores;
  }

  private void prune(Model model, TaskPass onTest, HeadScores scores) {
    PruningCurves curves =
        PruningCurves.ofThreeOrders(
            model,
            scores,
            seed,
            mask -> onTest.scores("pruning", mask).get(TokenPredictions.PERPLEXITY));
    curves.print(out, "Perplexity of the test text's bytes without a part of the heads");
    results
        .put("fractions", curves.fractions())
        .put(TokenPredictions.PERPLEXITY, curves.means())
        .write();
    CurveReport.write(
        results.file(Results.REPORT),
        "Pruning the attention heads of a small GPT-2",
        "A byte-level model of 0.86 million parameters; perplexity of a byte of text from the King"
            + " James Bible that it was not trained on; not retrained after pruning",
        "perplexity",
        curves,
        scores);
  }
}
