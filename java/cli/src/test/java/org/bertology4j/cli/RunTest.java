package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.bertology4j.Activations;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadMask;
import org.bertology4j.HeadScores;
import org.bertology4j.Heads;
import org.bertology4j.Model;
import org.bertology4j.RunOptions;
import org.bertology4j.text.Batches;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.GlueTask;
import org.bertology4j.text.Tokenizer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** {@code bertology run} on models and data sets. */
class RunTest {
  private static final int EXAMPLES = 40;

  @TempDir Path temporary;
  private Path model;
  private Path glue;
  private Path output;

  @BeforeEach
  void makeModelAndData() {
    model = Tiny.classifier(temporary.resolve("model"), "LABEL_0", "LABEL_1");
    glue = temporary.resolve("glue");
    output = temporary.resolve("results");
    Tiny.table(
        glue.resolve("dev.tsv"),
        "sentence\tlabel",
        Tiny.sentences(EXAMPLES, 12, 1),
        Tiny.labels(EXAMPLES, 2, "0", "1"));
  }

  private Object[] command(Path of, Object... more) {
    List<Object> arguments =
        new ArrayList<>(List.of("run", "--model_name_or_path", of, "--output_dir", output));
    arguments.addAll(List.of(more));
    return arguments.toArray();
  }

  private Object[] sst(Object... more) {
    return command(
        model,
        Stream.concat(Stream.of("--task_name", "sst-2", "--data_dir", glue), Stream.of(more))
            .toArray());
  }

  private JsonObject results() throws IOException {
    return JsonParser.parseString(Files.readString(output.resolve("results.json")))
        .getAsJsonObject();
  }

  private Set<String> files() throws IOException {
    try (Stream<Path> files = Files.list(output)) {
      return files
          .map(file -> file.getFileName().toString())
          .collect(Collectors.toCollection(TreeSet::new));
    }
  }

  private static List<Batch> batches(Path of, Dataset data, int examples) {
    try (Tokenizer tokenizer = Tokenizer.load(of)) {
      return Batches.ofExamples(tokenizer, data, examples);
    }
  }

  private static void assertClose(HeadScores expected, float[][] actual) {
    double largest =
        expected.ascending().stream()
            .mapToDouble(head -> Math.abs(expected.get(head.layer(), head.head())))
            .max()
            .orElseThrow();
    assertEquals(expected.layers(), actual.length);
    for (int l = 0; l < expected.layers(); l++) {
      assertEquals(expected.heads(), actual[l].length);
      for (int h = 0; h < expected.heads(); h++) {
        assertEquals(expected.get(l, h), actual[l][h], 1e-5 * largest, "head " + l + ":" + h);
      }
    }
  }

  private static double accuracy(Model loaded, Dataset data, List<Batch> batches, HeadMask mask) {
    int right = 0;
    int example = 0;
    RunOptions options = RunOptions.capturing(Capture.LOGITS).headMask(mask);
    for (Batch batch : batches) {
      try (Activations run = loaded.run(batch, options)) {
        for (int b = 0; b < batch.examples(); b++, example++) {
          int predicted = run.logits().get(b, 1) > run.logits().get(b, 0) ? 1 : 0;
          right += predicted == data.classOf(example) ? 1 : 0;
        }
      }
    }
    return (double) right / data.size();
  }

  @Test
  void importanceIsTheApis() throws IOException {
    String said = Cli.succeeds(sst());
    assertEquals(Set.of("attn_entropy.npy", "head_importance.npy", "results.json"), files());
    Dataset data = GlueTask.SST_2.read(glue, GlueTask.Split.DEV);
    JsonObject results = results();
    try (Model loaded = Model.load(model)) {
      List<Batch> batches = batches(model, data, 7);
      HeadImportance importance =
          HeadImportance.measure(
              loaded, batches, new HeadImportance.Accumulator(loaded).withEntropies(), run -> {});
      HeadScores scores =
          importance.scores(HeadImportance.Kind.PAPER).normalizedByLayer().normalizedGlobally();
      assertClose(scores, Npy.read(output.resolve("head_importance.npy")));
      assertClose(importance.entropy(), Npy.read(output.resolve("attn_entropy.npy")));
      double accuracy = accuracy(loaded, data, batches, HeadMask.ones(loaded.config()));
      assertEquals(accuracy, results.getAsJsonObject("scores").get("acc").getAsDouble());
      assertEquals(importance.meanLoss(), results.get("loss").getAsDouble(), 1e-5);
      assertEquals(importance.tokens(), results.get("tokens").getAsLong());
      assertTables(said, importance.entropy(), scores);
      assertTrue(said.contains(String.format(Locale.ROOT, "%nacc: %.5f%n", accuracy)), said);
    }
    assertEquals(EXAMPLES, results.get("examples").getAsInt());
    assertEquals("sst-2", results.get("task").getAsString());
    assertEquals(model.toString(), results.get("model").getAsString());
    assertEquals(glue.toString(), results.get("data").getAsString());
    assertEquals("acc", results.get("metric").getAsString());
    assertEquals("paper", results.get("importance").getAsString());
    assertEquals("float32", results.get("dtype").getAsString());
    assertTrue(results.get("normalized_by_layer").getAsBoolean());
    assertTrue(results.get("normalized_globally").getAsBoolean());
    assertTrue(results.get("importance_seconds").getAsDouble() > 0);
    assertTrue(results.getAsJsonArray("device").size() > 1);
    assertTrue(said.endsWith(String.format("results are in %s%n", output)), said);
  }

  @Test
  void severalDevicesGiveWhatOneGives() throws IOException {
    Object[] masking = {"--try_masking", "--masking_threshold", "0.01", "--batch_size", 2};
    Cli.succeeds(sst(masking));
    final JsonObject one = results();
    final HeadScores scores = HeadScores.of(doubles(output.resolve("head_importance.npy")));
    Object[] divided =
        Stream.concat(Stream.of(masking), Stream.of("--device", "cpu,cpu")).toArray();
    String said = Cli.succeeds(sst(divided));
    assertClose(scores, Npy.read(output.resolve("head_importance.npy")));
    for (String same : List.of("examples", "scores", "masked_heads", "pruned_score")) {
      assertEquals(one.get(same), results().get(same), same);
    }
    assertEquals(said.indexOf("device: cpu"), said.lastIndexOf("device: cpu"), "described once");
    Cli.misused(
        "--device cpu,cpu: capture takes one device",
        "capture",
        "--model_name_or_path",
        model,
        "--input",
        glue.resolve("dev.tsv"),
        "--output",
        output.resolve("capture"),
        "--capture",
        "logits",
        "--device",
        "cpu,cpu");
  }

  private static double[][] doubles(Path file) throws IOException {
    float[][] values = Npy.read(file);
    double[][] widened = new double[values.length][];
    for (int l = 0; l < values.length; l++) {
      widened[l] = new double[values[l].length];
      for (int h = 0; h < values[l].length; h++) {
        widened[l][h] = values[l][h];
      }
    }
    return widened;
  }

  /** The numbers of each table are those given, and its columns are aligned. */
  private static void assertTables(String said, HeadScores entropies, HeadScores scores) {
    List<String> lines = said.lines().toList();
    int[][] ranks = scores.ranks();
    int entropy = lines.indexOf("Attention entropies");
    int importance = lines.indexOf("Head importance scores");
    int rank = lines.indexOf("Head ranks, 0 for the most important");
    for (int title : new int[] {entropy, importance, rank}) {
      assertTrue(title >= 0, said);
      assertTrue(lines.get(title + 1).startsWith("layer \\ head "), said);
      for (int l = 0; l < scores.layers(); l++) {
        assertEquals(lines.get(title + 1).length(), lines.get(title + 2 + l).length(), said);
      }
    }
    for (int l = 0; l < scores.layers(); l++) {
      String[] rankCells = lines.get(rank + 2 + l).strip().split(" +");
      String[] scoreCells = lines.get(importance + 2 + l).strip().split(" +");
      String[] entropyCells = lines.get(entropy + 2 + l).strip().split(" +");
      assertEquals(String.valueOf(l), rankCells[0]);
      for (int h = 0; h < scores.heads(); h++) {
        assertEquals(String.valueOf(ranks[l][h]), rankCells[h + 1]);
        assertEquals(scores.get(l, h), Double.parseDouble(scoreCells[h + 1]), 2e-5);
        assertEquals(entropies.get(l, h), Double.parseDouble(entropyCells[h + 1]), 2e-5);
      }
    }
  }

  @ParameterizedTest
  @EnumSource(HeadImportance.Kind.class)
  void everyKindOfImportance(HeadImportance.Kind kind) throws IOException {
    String name = kind.name().toLowerCase(Locale.ROOT);
    Dataset data = GlueTask.SST_2.read(glue, GlueTask.Split.DEV);
    // Only hf depends on the batch size: 1 if it is not said.
    for (int batchSize : new int[] {1, 3}) {
      Cli.succeeds(
          sst(
              Stream.concat(
                      Stream.of(
                          "--importance",
                          name,
                          "--dont_normalize_importance_by_layer",
                          "--dont_normalize_global_importance"),
                      batchSize == 1 ? Stream.of() : Stream.of("--batch_size", batchSize))
                  .toArray()));
      try (Model loaded = Model.load(model)) {
        HeadImportance importance =
            HeadImportance.measure(
                loaded,
                batches(model, data, 8),
                new HeadImportance.Accumulator(loaded).withHf(batchSize),
                run -> {});
        assertClose(importance.scores(kind), Npy.read(output.resolve("head_importance.npy")));
      }
      assertEquals(name, results().get("importance").getAsString());
      assertEquals(
          kind == HeadImportance.Kind.HF, results().has("hf_batch_size"), "only where it counts");
      assertFalse(results().get("normalized_by_layer").getAsBoolean());
      assertFalse(results().get("normalized_globally").getAsBoolean());
    }
  }

  @Test
  void maskingThenPruning() throws IOException {
    Path pruned = temporary.resolve("pruned");
    String said =
        Cli.succeeds(
            sst(
                "--try_masking",
                "--save_pruned",
                pruned,
                "--masking_threshold",
                "0.8",
                "--threads",
                1));
    assertEquals(
        Set.of("attn_entropy.npy", "head_importance.npy", "head_mask.npy", "results.json"),
        files());
    JsonObject results = results();
    HeadMask mask = HeadMask.of(Npy.read(output.resolve("head_mask.npy")));
    assertEquals(mask.masked().toString(), results.get("masked_heads").getAsString());
    assertFalse(mask.isOnes(), said);
    Dataset data = GlueTask.SST_2.read(glue, GlueTask.Split.DEV);
    List<Batch> batches = batches(model, data, 16);
    double score = results.get("masked_score").getAsDouble();
    try (Model loaded = Model.load(model)) {
      HeadMask ones = HeadMask.ones(loaded.config());
      double whole = accuracy(loaded, data, batches, ones);
      assertEquals(whole, results.getAsJsonObject("scores").get("acc").getAsDouble());
      assertEquals(score, accuracy(loaded, data, batches, mask));
      assertTrue(score >= 0.8 * whole);
      assertSteps(results.getAsJsonArray("masking_steps"), 0.8 * whole, mask, score);
      assertEquals(loaded.parameterCount(), results.get("parameters_before").getAsLong());
    }
    try (Model loaded = Model.load(pruned)) {
      assertEquals(mask.masked(), loaded.prunedHeads());
      assertEquals(
          score, accuracy(loaded, data, batches, HeadMask.ones(loaded.config())), "as saved");
      assertEquals(loaded.parameterCount(), results.get("parameters_pruned").getAsLong());
    }
    assertEquals(score, results.get("pruned_score").getAsDouble());
    assertTrue(results.get("bytes_pruned").getAsLong() < results.get("bytes_before").getAsLong());
    for (String what : List.of("whole", "masked", "pruned")) {
      assertTrue(results.get("examples_per_second_" + what).getAsDouble() > 0);
    }
    assertEquals(pruned.toString(), results.get("pruned_model").getAsString());
    assertTrue(said.contains("pruned heads: " + mask.masked()), said);
    // The masking passes leave the first one's results alone.
    assertEquals(
        12,
        HeadScores.of(doubles(Npy.read(output.resolve("head_importance.npy")))).ascending().size());
  }

  private static double[][] doubles(float[][] rows) {
    return Stream.of(rows)
        .map(row -> IntStream.range(0, row.length).mapToDouble(i -> row[i]).toArray())
        .toArray(double[][]::new);
  }

  /** One head goes at each step; all steps but the last are kept, if the last one is not. */
  private static void assertSteps(JsonArray steps, double least, HeadMask mask, double score) {
    int masked = 0;
    for (JsonElement element : steps) {
      JsonObject step = element.getAsJsonObject();
      assertEquals(++masked, step.get("masked").getAsInt());
      boolean kept = step.get("kept").getAsBoolean();
      assertEquals(step.get("score").getAsDouble() >= least, kept);
      assertTrue(kept || masked == steps.size());
      if (masked == mask.masked().size()) {
        assertEquals(score, step.get("score").getAsDouble());
      }
    }
  }

  @Test
  void maskingEndsWhenNothingIsLeftToMask() throws IOException {
    Cli.succeeds(sst("--try_masking", "--masking_threshold", "0.01", "--masking_amount", "0.25"));
    // Three at a time of twelve, and never the last ones.
    assertEquals(9, HeadMask.of(Npy.read(output.resolve("head_mask.npy"))).masked().size());
  }

  @Test
  void lowerErrorsAreBetter() throws IOException {
    Path regression = Tiny.classifier(temporary.resolve("regression"), "score");
    Path data =
        Tiny.table(
            temporary.resolve("scores.tsv"),
            "text\tscore",
            Tiny.sentences(EXAMPLES, 9, 3),
            Tiny.labels(EXAMPLES, 4, "0.5", "1.25", "3"));
    String said =
        Cli.succeeds(
            command(
                regression,
                "--input",
                data,
                "--text_column",
                "text",
                "--label_column",
                "score",
                "--metric_name",
                "mse",
                "--try_masking"));
    JsonObject results = results();
    double whole = results.getAsJsonObject("scores").get("mse").getAsDouble();
    assertEquals(whole, results.get("loss").getAsDouble(), 1e-5 * whole);
    for (JsonElement element : results.getAsJsonArray("masking_steps")) {
      JsonObject step = element.getAsJsonObject();
      assertEquals(
          step.get("score").getAsDouble() <= 1.1 * whole, step.get("kept").getAsBoolean(), said);
    }
    assertTrue(results.get("pruned_score").getAsDouble() <= 1.1 * whole);
  }

  @Test
  void pairsAndTheMetricAskedFor() throws IOException {
    Tiny.table(
        glue.resolve("dev.tsv"),
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        Tiny.labels(9, 1, "0", "1"),
        Tiny.labels(9, 1, "7"),
        Tiny.labels(9, 1, "8"),
        Tiny.sentences(9, 8, 2),
        Tiny.sentences(9, 8, 3));
    String said =
        Cli.succeeds(
            command(
                model,
                "--task-name",
                "MRPC",
                "--data-dir",
                glue,
                "--metric-name",
                "f1",
                "--no-cuda"));
    assertEquals(Set.of("acc", "f1", "acc_and_f1"), results().getAsJsonObject("scores").keySet());
    assertEquals("f1", results().get("metric").getAsString());
    assertTrue(said.contains("mrpc dev, 9 examples"), said);
  }

  @Test
  void classesAreFoundByTheirNames() throws IOException {
    List<String> header = new ArrayList<>(Collections.nCopies(11, "x"));
    header.add("gold_label");
    List<String> x = Collections.nCopies(EXAMPLES, "x");
    List<String> labels = Tiny.labels(EXAMPLES, 4, "contradiction", "entailment", "neutral");
    Tiny.table(
        glue.resolve("dev_matched.tsv"),
        String.join("\t", header),
        x,
        x,
        x,
        x,
        x,
        x,
        x,
        x,
        Tiny.sentences(EXAMPLES, 7, 5),
        Tiny.sentences(EXAMPLES, 7, 6),
        x,
        labels);
    Path ordered =
        Tiny.classifier(temporary.resolve("ordered"), "contradiction", "entailment", "neutral");
    Path other =
        Tiny.classifier(temporary.resolve("other"), "Neutral", "Contradiction", "Entailment");
    List<Double> losses = new ArrayList<>();
    for (Path of : List.of(ordered, other)) {
      Cli.succeeds(command(of, "--task_name", "mnli", "--data_dir", glue, "--metric_name", "acc"));
      assertEquals(Set.of("mnli/acc"), results().getAsJsonObject("scores").keySet());
      assertEquals("mnli/acc", results().get("metric").getAsString());
      losses.add(results().get("loss").getAsDouble());
    }
    Dataset data = GlueTask.MNLI.read(glue, GlueTask.Split.DEV);
    int[] places = {1, 2, 0};
    double expected = 0;
    try (Model loaded = Model.load(other)) {
      for (int i = 0; i < data.size(); i++) {
        Batch batch = batches(other, data, 1).get(i).withLabels(places[data.classOf(i)]);
        try (Activations run = loaded.run(batch, Capture.LOSS)) {
          expected += run.loss().get(0) / data.size();
        }
      }
    }
    assertEquals(expected, losses.get(1), 1e-5);
    assertTrue(Math.abs(losses.get(0) - losses.get(1)) > 1e-3, "the same weights, other classes");
  }

  @Test
  void scoresThatAreUndefinedAreNull() throws IOException {
    Path constant = Tiny.constant(temporary.resolve("constant"));
    Path data =
        Tiny.table(
            temporary.resolve("scores.tsv"),
            "sentence\tlabel",
            Tiny.sentences(5, 5, 3),
            Tiny.labels(5, 4, "0.5", "1.25", "3"));
    Cli.succeeds(command(constant, "--input", data, "--try_masking"));
    assertTrue(results().getAsJsonObject("scores").get("corr").isJsonNull());
    assertFalse(Files.readString(output.resolve("results.json")).contains("NaN"));
  }

  @Test
  void onlyTheFirstExamples() throws IOException {
    Cli.succeeds(sst("--data_subset", 5));
    assertEquals(5, results().get("examples").getAsInt());
    Cli.succeeds(sst("--data_subset", -1));
    assertEquals(EXAMPLES, results().get("examples").getAsInt());
    Cli.succeeds(sst("--data_subset", 1000));
    assertEquals(EXAMPLES, results().get("examples").getAsInt());
  }

  @Test
  void anEarlierRunsResultsDoNotStayBesideNewOnes() throws IOException {
    Files.createDirectories(output);
    Files.writeString(output.resolve("mine.txt"), "not a result");
    Files.writeString(output.resolve("report.html"), "of another run");
    Cli.succeeds(sst("--try_masking", "--masking_threshold", "0.01"));
    assertEquals(
        Set.of(
            "attn_entropy.npy", "head_importance.npy", "head_mask.npy", "results.json", "mine.txt"),
        files());
    byte[] before = Files.readAllBytes(output.resolve("results.json"));
    // A run that fails before it has a result changes nothing.
    Cli.fails("does not exist", command(model, "--task_name", "rte", "--data_dir", temporary));
    Cli.fails(
        "corr is no metric",
        command(model, "--input", glue.resolve("dev.tsv"), "--metric_name", "corr"));
    assertArrayEquals(before, Files.readAllBytes(output.resolve("results.json")));
    assertTrue(files().contains("head_mask.npy"));
    Cli.succeeds(sst("--importance", "signed"));
    assertEquals(
        Set.of("attn_entropy.npy", "head_importance.npy", "results.json", "mine.txt"), files());
    assertFalse(results().has("masked_heads"));
  }

  @Test
  void failuresLeaveNothing() throws IOException {
    Path dev = glue.resolve("dev.tsv");
    Cli.fails("no such file or folder", command(temporary.resolve("x"), "--input", dev));
    Cli.fails(
        "has no classifier", command(Tiny.encoder(temporary.resolve("encoder")), "--input", dev));
    Cli.fails("no column \"mood\"", command(model, "--input", dev, "--label_column", "mood"));
    Cli.fails(
        "f1 is for 2 classes",
        command(
            Tiny.classifier(temporary.resolve("three"), "0", "1", "2"),
            "--input",
            dev,
            "--metric_name",
            "f1"));
    Cli.fails(
        "labels are classes [0, 1], the model's are classes [0, 1, 2]",
        command(temporary.resolve("three"), "--task_name", "sst-2", "--data_dir", glue));
    Cli.fails(
        "labels are classes [0, 1], the model's are regression",
        command(
            Tiny.classifier(temporary.resolve("one"), "score"),
            "--task_name",
            "sst-2",
            "--data_dir",
            glue));
    Tiny.write(dev, List.of("sentence\tlabel", "good film\t2"));
    Cli.fails("dev.tsv:2: unknown label \"2\"", sst());
    Tiny.write(dev, List.of("sentence\tlabel", "good film"));
    Cli.fails("dev.tsv:2: 1 columns", sst());
    Tiny.write(dev, List.of("sentence\tlabel"));
    Cli.fails("dev.tsv has no examples", sst());
    Files.delete(model.resolve("vocab.txt"));
    Tiny.write(dev, List.of("sentence\tlabel", "good film\t1"));
    Cli.fails("has no tokenizer", sst());
    assertFalse(Files.exists(output));
    output = dev;
    Cli.fails("is not a folder", sst());
    output = temporary.resolve("results");
    Cli.fails("is the folder of the model itself", sst("--try_masking", "--save_pruned", model));
    assertFalse(Files.exists(output));
  }

  @Test
  void anInterruptKeepsWhatIsFinished() throws IOException {
    Cli.succeeds(sst());
    byte[] before = Files.readAllBytes(output.resolve("results.json"));
    Thread.currentThread().interrupt();
    try {
      Cli.fails("interrupted", sst());
    } finally {
      assertTrue(Thread.interrupted());
    }
    assertArrayEquals(before, Files.readAllBytes(output.resolve("results.json")));
  }

  @Test
  void prunedHeadsAreLeftOutOfTheTables() throws IOException {
    Path pruned = temporary.resolve("pruned");
    try (Model loaded = Model.load(model)) {
      loaded.pruneHeads(Heads.parse("0:1;2:3"));
      loaded.save(pruned);
    }
    String said =
        Cli.succeeds(command(pruned, "--task_name", "sst-2", "--data_dir", glue, "--try_masking"));
    assertTrue(said.contains(" -"), said);
    assertTrue(said.contains("masked 1 of 10 heads"), said);
    float[][] importance = Npy.read(output.resolve("head_importance.npy"));
    assertTrue(Float.isNaN(importance[0][1]) && Float.isNaN(importance[2][3]));
    assertEquals(1, Npy.read(output.resolve("head_mask.npy"))[0][1]);
  }
}
