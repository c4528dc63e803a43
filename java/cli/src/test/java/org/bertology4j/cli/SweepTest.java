package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.bertology4j.Batch;
import org.bertology4j.HeadMask;
import org.bertology4j.LanguageModelScore;
import org.bertology4j.Model;
import org.bertology4j.text.Documents;
import org.bertology4j.text.Tokenizer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** {@code bertology sweep}. */
class SweepTest {
  private static final Path LANGUAGE_MODEL = Path.of("src/main/distribution/models/kjv-gpt2");

  @TempDir Path temporary;
  private Path model;
  private Path data;
  private Path output;

  @BeforeEach
  void makeModelAndData() {
    model = Tiny.classifier(temporary.resolve("model"), "bad", "good");
    output = temporary.resolve("results");
    data =
        Tiny.table(
            temporary.resolve("data.tsv"),
            "sentence\tlabel",
            Tiny.sentences(60, 12, 1),
            Tiny.labels(60, 2, "bad", "good"));
  }

  private Object[] command(Path of, Path to, Object... more) {
    List<Object> arguments =
        new ArrayList<>(
            List.of("sweep", "--model_name_or_path", of, "--output_dir", to, "--input", data));
    arguments.addAll(List.of(more));
    return arguments.toArray();
  }

  private static JsonObject results(Path folder) throws IOException {
    return JsonParser.parseString(Files.readString(folder.resolve("results.json")))
        .getAsJsonObject();
  }

  private Set<String> files() throws IOException {
    try (Stream<Path> files = Files.list(output)) {
      return files
          .map(file -> file.getFileName().toString())
          .collect(Collectors.toCollection(TreeSet::new));
    }
  }

  private static double number(JsonObject json, String rows, int layer, int head) {
    return json.getAsJsonArray(rows).get(layer).getAsJsonArray().get(head).getAsDouble();
  }

  /** What {@code run} gives for the model with this head pruned. */
  private double accuracyWithout(String heads) throws IOException {
    Path pruned = temporary.resolve("pruned");
    Cli.succeeds("prune", "--model_name_or_path", model, "--heads", heads, "--output_dir", pruned);
    Files.copy(
        model.resolve("vocab.txt"),
        pruned.resolve("vocab.txt"),
        StandardCopyOption.REPLACE_EXISTING);
    Path scored = temporary.resolve("scored");
    Cli.succeeds("run", "--model_name_or_path", pruned, "--output_dir", scored, "--input", data);
    return results(scored).getAsJsonObject("scores").get("acc").getAsDouble();
  }

  @Test
  void ablation() throws IOException {
    String said = Cli.succeeds(command(model, output, "--kind", "ablation"));
    assertTrue(said.contains("Change of the acc of "), said);
    assertEquals(
        Set.of("head_changes.npy", "head_scores.npy", "results.json", "sweep.csv"), files());
    JsonObject json = results(output);
    assertEquals("ablation", json.get("kind").getAsString());
    assertTrue(json.get("higher_is_better").getAsBoolean());
    double whole = json.get("score").getAsDouble();
    float[][] changes = Npy.read(output.resolve("head_changes.npy"));
    for (int head = 0; head < Tiny.HEADS; head++) {
      double expected = accuracyWithout("1:" + head);
      assertEquals(expected, number(json, "scores", 1, head), 1e-12);
      assertEquals(expected - whole, number(json, "changes", 1, head), 1e-12);
      assertEquals(expected - whole, changes[1][head], 1e-6);
    }
    List<String> lines = Files.readAllLines(output.resolve("sweep.csv"));
    assertEquals("layer,head,score,change", lines.get(0));
    assertEquals(1 + Tiny.LAYERS * Tiny.HEADS, lines.size());
    assertEquals(
        "1,0," + number(json, "scores", 1, 0) + "," + number(json, "changes", 1, 0),
        lines.get(1 + Tiny.HEADS));
    assertEquals(Tiny.LAYERS, json.getAsJsonArray("best_of_each_layer").size());
  }

  @Test
  void oneHeadOfALayer() throws IOException {
    Cli.succeeds(command(model, output, "--kind", "all_but_one"));
    String others = "0:1";
    for (int head = 2; head < Tiny.HEADS; head++) {
      others += "," + head;
    }
    assertEquals(accuracyWithout(others), number(results(output), "scores", 0, 0), 1e-12);
  }

  @Test
  void curve() throws IOException {
    String said = Cli.succeeds(command(model, output, "--kind", "curve", "--value", "loss"));
    assertTrue(said.contains("The mean loss of these data"), said);
    assertEquals(
        Set.of("head_importance.npy", "report.html", "results.json", "sweep.csv"), files());
    JsonObject json = results(output);
    JsonObject scores = json.getAsJsonObject("scores");
    assertEquals(4, scores.size());
    JsonArray least = scores.getAsJsonArray("least important first");
    assertEquals(json.getAsJsonArray("fractions").size(), least.size());
    List<String> lines = Files.readAllLines(output.resolve("sweep.csv"));
    assertEquals("order,fraction,mean,least,greatest", lines.get(0));
    assertEquals(1 + 4 * least.size(), lines.size());
    assertTrue(lines.stream().anyMatch(line -> line.startsWith("\"random, seed 1\",0.1,")));
  }

  @Test
  void shapley() throws IOException {
    String said =
        Cli.succeeds(
            command(model, output, "--kind", "shapley", "--permutations", 4, "--value", "loss"));
    assertTrue(said.contains("4 orders, 0 left before their end"), said);
    assertEquals(
        Set.of("head_shapley.npy", "head_shapley_errors.npy", "results.json", "sweep.csv"),
        files());
    JsonObject json = results(output);
    double sum = 0;
    for (float[] layer : Npy.read(output.resolve("head_shapley.npy"))) {
      for (float value : layer) {
        sum += value;
      }
    }
    double range = json.get("score").getAsDouble() - json.get("score_without_heads").getAsDouble();
    assertEquals(range, sum, 1e-5);
    String all =
        Cli.succeeds(
            command(model, output, "--kind", "shapley", "--permutations", 2, "--tolerance", 100));
    assertTrue(all.contains("2 orders, 2 left before their end"), all);
    assertEquals(0, number(results(output), "shapley", 0, 0));
  }

  @Test
  void languageModel() throws IOException {
    List<String> lines = Files.readAllLines(LANGUAGE_MODEL.resolve("test.txt")).subList(0, 12);
    data = Tiny.write(temporary.resolve("text.txt"), lines);
    Cli.succeeds(command(LANGUAGE_MODEL, output, "--kind", "ablation", "--task_name", "lm"));
    JsonObject json = results(output);
    assertEquals("log_perplexity", json.get("value").getAsString());
    assertFalse(json.get("higher_is_better").getAsBoolean());
    try (Model loaded = Model.load(LANGUAGE_MODEL);
        Tokenizer tokenizer = Tokenizer.load(LANGUAGE_MODEL)) {
      List<Batch> batches = Documents.ofLines(data, tokenizer).labelledBatches(3);
      HeadMask mask = HeadMask.ones(loaded.config()).with(2, 5, 0f);
      double expected = LanguageModelScore.measure(loaded, batches, mask).meanLoss();
      assertEquals(expected, number(json, "scores", 2, 5), 1e-6);
    }
  }

  @Test
  void modelsThatComeAlong() throws IOException {
    Tiny.encoder(temporary.resolve("models/bge-small-en-v1.5"));
    System.setProperty("bertology.home", temporary.toString());
    try {
      String said = Cli.succeeds("sweep", "--kind", "ablation", "--output_dir", output);
      assertTrue(said.contains("600"), said);
    } finally {
      System.clearProperty("bertology.home");
    }
    assertTrue(results(output).get("score").getAsDouble() > 0.5);
  }

  /** Ends a sweep of a model that takes its time as Ctrl-C does. */
  private Cli.Result interrupted(Object... command) throws Exception {
    Cli.Result[] result = new Cli.Result[1];
    Thread thread = new Thread(() -> result[0] = Cli.run(command));
    thread.start();
    Path file = output.resolve("sweep.jsonl");
    while (thread.isAlive() && (!Files.exists(file) || Files.readAllLines(file).size() < 3)) {
      Thread.sleep(5);
    }
    thread.interrupt();
    thread.join();
    return result[0];
  }

  @ParameterizedTest
  @ValueSource(strings = {"ablation", "shapley"})
  void resumes(String kind) throws Exception {
    Path slow = Tiny.slow(temporary.resolve("slow"));
    Object[] options = {"--kind", kind, "--batch_size", 3, "--value", "loss"};
    Cli.Result ended = interrupted(command(slow, output, options));
    assertEquals(1, ended.code(), "it was too fast to be interrupted");
    assertTrue(ended.err().contains("--resume goes on from"), ended.err());
    assertEquals(Set.of("sweep.jsonl"), files());

    Cli.fails("--resume goes on with it", command(slow, output, options));
    Object[] resume = Arrays.copyOf(options, options.length + 1);
    resume[options.length] = "--resume";
    Object[] other = resume.clone();
    other[3] = 4;
    Cli.fails("is of another sweep", command(slow, output, other));
    Object[] model = resume.clone();
    Cli.fails("is of another sweep", command(this.model, output, model));
    assertEquals(Set.of("sweep.jsonl"), files());

    Cli.succeeds(command(slow, output, resume));
    Path fresh = temporary.resolve("fresh");
    Cli.succeeds(command(slow, fresh, resume)); // nothing to resume: from the start
    for (String file : files()) {
      if (!file.equals("results.json")) {
        assertArrayEquals(
            Files.readAllBytes(fresh.resolve(file)),
            Files.readAllBytes(output.resolve(file)),
            file);
      }
    }
    assertFalse(files().contains("sweep.jsonl"));
  }

  @Test
  void saysWhatIsWrong() {
    Cli.misused("--kind", command(model, output));
    Cli.misused("\"heads\" is none of ablation", command(model, output, "--kind", "heads"));
    Cli.misused(
        "are of --kind shapley", command(model, output, "--kind", "ablation", "--permutations", 3));
    Cli.misused(
        "expected more than 0", command(model, output, "--kind", "shapley", "--permutations", 0));
    Cli.misused(
        "expected 0 or more", command(model, output, "--kind", "shapley", "--tolerance", -1));
    Cli.misused(
        "--output_dir is missing",
        "sweep",
        "--kind",
        "curve",
        "--model_name_or_path",
        model,
        "--input",
        data);
    Cli.misused("nothing to choose", "sweep", "--kind", "curve", "--batch_size", 3);
  }
}
