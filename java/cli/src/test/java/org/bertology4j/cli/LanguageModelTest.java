package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.bertology4j.Activations;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadScores;
import org.bertology4j.LanguageModelScore;
import org.bertology4j.Model;
import org.bertology4j.checkpoint.SafetensorsFile;
import org.bertology4j.text.Documents;
import org.bertology4j.text.Tokenizer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code bertology run} and {@code capture} on the small GPT-2 that comes along. */
class LanguageModelTest {
  private static final Path MODEL = Path.of("src/main/distribution/models/kjv-gpt2");

  @TempDir Path temporary;
  private Path text;
  private Path output;

  @BeforeEach
  void writeText() throws IOException {
    List<String> lines = Files.readAllLines(MODEL.resolve("test.txt")).subList(0, 12);
    text = Tiny.write(temporary.resolve("text.txt"), lines);
    output = temporary.resolve("results");
  }

  private JsonObject results() throws IOException {
    return JsonParser.parseString(Files.readString(output.resolve("results.json")))
        .getAsJsonObject();
  }

  private String run(Object... more) {
    List<Object> arguments =
        new ArrayList<>(
            List.of(
                "run", "--task_name", "lm", "--model_name_or_path", MODEL, "--output_dir", output));
    arguments.addAll(List.of(more));
    return Cli.succeeds(arguments.toArray());
  }

  private double perplexity() throws IOException {
    return results().getAsJsonObject("scores").get("perplexity").getAsDouble();
  }

  /** Removing half of the heads costs the least if the least important go first. */
  @Test
  void modelThatComesAlong() throws IOException {
    System.setProperty(
        "bertology.home", Path.of("src/main/distribution").toAbsolutePath().toString());
    String said;
    try {
      said = Cli.succeeds("run", "--task_name", "lm", "--output_dir", output);
    } finally {
      System.clearProperty("bertology.home");
    }
    assertTrue(said.contains("importance of 32 heads from 63987 tokens"), said);
    JsonObject curves = results().getAsJsonObject("perplexity");
    double[] least = doubles(curves.getAsJsonArray("least important first"));
    double[] random = doubles(curves.getAsJsonArray("random, mean of 5 seeds"));
    double[] most = doubles(curves.getAsJsonArray("most important first"));
    // What transformers computes of the same blocks: kjv_gpt2_perplexity.py.
    assertEquals(2.8757048806, least[0], 2e-5);
    int half = Arrays.binarySearch(doubles(results().getAsJsonArray("fractions")), 0.5);
    assertTrue(least[half] - least[0] < (most[half] - most[0]) / 3, said);
    assertTrue(least[half] < random[half], said);
    assertTrue(Files.readString(output.resolve("report.html")).contains("perplexity"));
    assertEquals(4, Npy.read(output.resolve("head_importance.npy")).length);
  }

  private static double[] doubles(JsonArray array) {
    return array.asList().stream().mapToDouble(x -> x.getAsDouble()).toArray();
  }

  @Test
  void scoresAreOverAllTokens() throws IOException {
    String said = run("--input", text);
    assertTrue(said.contains("12 texts"), said);
    try (Model model = Model.load(MODEL);
        Tokenizer tokenizer = Tokenizer.load(MODEL)) {
      LanguageModelScore expected =
          LanguageModelScore.measure(model, Documents.ofLines(text, tokenizer).labelledBatches(1));
      assertEquals(expected.perplexity(), perplexity(), 1e-5);
      JsonObject scores = results().getAsJsonObject("scores");
      assertEquals(expected.meanLoss(), scores.get("log_perplexity").getAsDouble(), 1e-6);
      assertEquals(expected.accuracy(), scores.get("next_token_acc").getAsDouble());
      assertEquals("log_perplexity", results().get("metric").getAsString());

      // The same as ids, and as a table.
      List<String> ids = new ArrayList<>();
      for (Batch batch : Documents.ofLines(text, tokenizer).batches(1)) {
        ids.add(Arrays.toString(batch.inputIds(0)).replaceAll("[\\[\\],]", " "));
      }
      Path file = Tiny.write(temporary.resolve("ids.txt"), ids);
      run("--input", file, "--token_ids", "--batch_size", 5);
      assertEquals(expected.perplexity(), perplexity(), 1e-5);
      List<String> padded = ids.stream().map(line -> "256 256 " + line + " 256").toList();
      Path filled = Tiny.write(temporary.resolve("padded.txt"), padded);
      run("--input", filled, "--token_ids", "--pad_token_id", 256);
      assertEquals(expected.perplexity(), perplexity(), 1e-5);
      Path table = Tiny.table(temporary.resolve("t.tsv"), "verse", Files.readAllLines(text));
      run("--input", table, "--text_column", "verse");
      assertEquals(expected.perplexity(), perplexity(), 1e-5);
    }
  }

  /** Entropies are there as they are and relative to what each token could have. */
  @Test
  void entropiesAreBesideEachOther() throws IOException {
    String said = run("--input", text);
    assertTrue(said.contains("Attention entropies" + System.lineSeparator()), said);
    assertTrue(said.contains("Attention entropies, of the largest possible"), said);
    try (Model model = Model.load(MODEL);
        Tokenizer tokenizer = Tokenizer.load(MODEL)) {
      HeadImportance importance =
          HeadImportance.measure(
              model,
              Documents.ofLines(text, tokenizer).labelledBatches(1),
              new HeadImportance.Accumulator(model).withEntropies(),
              run -> {});
      assertClose(importance.entropy(), "attn_entropy.npy");
      assertClose(importance.relativeEntropy(), "attn_entropy_relative.npy");
    }
  }

  private void assertClose(HeadScores expected, String file) throws IOException {
    float[][] actual = Npy.read(output.resolve(file));
    assertEquals(expected.layers(), actual.length);
    for (int l = 0; l < actual.length; l++) {
      for (int h = 0; h < actual[l].length; h++) {
        assertEquals(expected.get(l, h), actual[l][h], 1e-5, file + " " + l + ":" + h);
      }
    }
  }

  @Test
  void textsThatAreCutAreCounted() throws IOException {
    Path file = Tiny.write(temporary.resolve("long.txt"), List.of("a".repeat(300), "Amen."));
    assertTrue(run("--input", file).contains("2 texts of 261 tokens, 1 of them cut"));
  }

  @Test
  void blocksOverlapAndCountOnce() throws IOException {
    run("--input", text, "--block_size", 64, "--stride", 32);
    double overlapping = perplexity();
    run("--input", text, "--block_size", 64);
    assertTrue(overlapping < perplexity(), "more context, less surprise");
    run("--input", text, "--block_size", 64, "--data_subset", 3);
    assertEquals(3, results().get("examples").getAsInt());
    assertEquals(192, results().get("tokens").getAsInt());
  }

  @Test
  void maskingKeepsTheScoreAboveTheThreshold() throws IOException {
    Path pruned = temporary.resolve("pruned");
    run("--input", text, "--try_masking", "--masking_threshold", 0.8, "--save_pruned", pruned);
    JsonObject results = results();
    double whole = results.getAsJsonObject("scores").get("log_perplexity").getAsDouble();
    double masked = results.get("masked_score").getAsDouble();
    assertTrue(masked > whole && masked <= 1.2 * whole, masked + " of " + whole);
    assertEquals(masked, results.get("pruned_score").getAsDouble(), 1e-5);
    try (Model model = Model.load(pruned);
        Tokenizer tokenizer = Tokenizer.load(pruned)) {
      assertEquals(results.get("masked_heads").getAsString(), model.prunedHeads().toString());
      LanguageModelScore score =
          LanguageModelScore.measure(model, Documents.ofLines(text, tokenizer).labelledBatches(3));
      assertEquals(masked, score.meanLoss(), 1e-5);
    }
  }

  @Test
  void capturesNeedNoLabels() {
    Path file = temporary.resolve("captured.safetensors");
    Cli.succeeds(
        "capture",
        "--model_name_or_path",
        MODEL,
        "--input",
        text,
        "--capture",
        "logits,loss,head_gradients,token_losses,token_predictions,last_block_state",
        "--output",
        file);
    try (SafetensorsFile captured = SafetensorsFile.open(file);
        Model model = Model.load(MODEL);
        Tokenizer tokenizer = Tokenizer.load(MODEL)) {
      Batch batch = Documents.ofLines(text, tokenizer).labelledBatches(12).get(0);
      long longest = batch.longest();
      assertEquals(List.of(12L, longest, 257L), captured.tensor("logits").shape());
      assertEquals(List.of(12L, longest), captured.tensor("token_losses").shape());
      assertEquals(List.of(12L, longest, 128L), captured.tensor("last_block_state").shape());
      try (Activations run = model.run(batch, Capture.LOSS, Capture.HEAD_GRADIENTS)) {
        assertEquals(List.of(12L, 4L, 8L), captured.tensor("head_gradients").shape());
        assertClose(run.headGradients().toArray(), captured, "head_gradients");
        assertClose(run.loss().toArray(), captured, "loss");
      }
    }
  }

  private static void assertClose(float[] expected, SafetensorsFile file, String name) {
    java.nio.ByteBuffer bytes =
        java.nio.ByteBuffer.allocate(expected.length * Float.BYTES)
            .order(java.nio.ByteOrder.LITTLE_ENDIAN);
    file.read(file.tensor(name), bytes);
    float[] actual = new float[expected.length];
    bytes.flip().asFloatBuffer().get(actual);
    org.junit.jupiter.api.Assertions.assertArrayEquals(expected, actual, 1e-6f, name);
  }

  @Test
  void whatIsWrong() {
    Path bert = Tiny.maskedLm(temporary.resolve("bert"));
    Cli.fails(
        "is no model that predicts next tokens",
        "run",
        "--task_name",
        "lm",
        "--model_name_or_path",
        bert,
        "--input",
        text,
        "--output_dir",
        output);
    Object[] start = {
      "run", "--task_name", "lm", "--model_name_or_path", MODEL, "--output_dir", output
    };
    misused("--task_name lm needs the texts: --input", start);
    misused("--stride needs a --block_size", start, "--input", text, "--stride", 3);
    misused("--block_size is 1", start, "--input", text, "--block_size", 1);
    misused(
        "--stride is 9, expected 1 to 8", start, "--input", text, "--block_size", 8, "--stride", 9);
    misused("--pad_token_id needs --token_ids", start, "--input", text, "--pad_token_id", 3);
    misused("has no metric \"f1\"", start, "--input", text, "--metric_name", "f1");
    misused(
        "are of the task lm",
        new Object[] {"run", "--model_name_or_path", MODEL, "--output_dir", output},
        "--input",
        text,
        "--token_ids");
    Path some = Tiny.write(temporary.resolve("some.txt"), List.of("Amen.", "a"));
    Cli.fails(
        "some.txt: text 2 of 2 has one token, and nothing to predict",
        "capture",
        "--model_name_or_path",
        MODEL,
        "--input",
        some,
        "--capture",
        "head_gradients",
        "--output",
        temporary.resolve("captured.safetensors"));
    Path one = Tiny.write(temporary.resolve("one.txt"), List.of("a"));
    Cli.fails(
        "no text has two tokens",
        "run",
        "--task_name",
        "lm",
        "--model_name_or_path",
        MODEL,
        "--output_dir",
        output,
        "--input",
        one);
  }

  private static void misused(String saying, Object[] start, Object... more) {
    List<Object> arguments = new ArrayList<>(List.of(start));
    arguments.addAll(List.of(more));
    Cli.misused(saying, arguments.toArray());
  }
}
