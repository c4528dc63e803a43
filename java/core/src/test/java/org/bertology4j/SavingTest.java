package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.bertology4j.BertologyException.Kind;
import org.bertology4j.checkpoint.SafetensorsFile;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What is in a saved folder, and what is not there when saving fails. */
class SavingTest {
  @TempDir Path temporary;
  private Model model;

  @BeforeEach
  void load() {
    model = Model.load(Golden.folder("classification"));
  }

  @AfterEach
  void close() {
    model.close();
  }

  private static float[] logits(Model of) {
    try (Activations run = of.run(Batch.of(new int[] {1, 2, 3}), Capture.LOGITS)) {
      return run.logits().toArray();
    }
  }

  /** The files of a folder, with their content. */
  private static TreeMap<String, String> content(Path folder) throws IOException {
    TreeMap<String, String> content = new TreeMap<>();
    try (Stream<Path> paths = Files.walk(folder)) {
      for (Path path : paths.filter(Files::isRegularFile).toList()) {
        content.put(
            folder.relativize(path).toString(),
            Files.readString(path, StandardCharsets.ISO_8859_1));
      }
    }
    return content;
  }

  private BertologyException assertCannotSave(Path folder, String text) {
    BertologyException e = assertThrows(BertologyException.class, () -> model.save(folder));
    assertEquals(Kind.IO, e.kind(), e.getMessage());
    assertTrue(e.getMessage().contains(text), e.getMessage());
    assertEquals(3, logits(model).length, "the model works on");
    return e;
  }

  /** Runs the body with a file system of this size. */
  private void onSmallDisk(String size, ThrowingBody body) throws Exception {
    Path mount = Files.createDirectories(temporary.resolve("small"));
    Process process =
        new ProcessBuilder("mount", "-t", "tmpfs", "-o", "size=" + size, "tmpfs", mount.toString())
            .redirectErrorStream(true)
            .start();
    boolean mounted = process.waitFor(10, TimeUnit.SECONDS) && process.exitValue() == 0;
    assumeTrue(mounted, "this process may not mount a small file system");
    try {
      body.run(mount);
    } finally {
      new ProcessBuilder("umount", mount.toString()).start().waitFor();
    }
  }

  private interface ThrowingBody {
    void run(Path folder) throws Exception;
  }

  @Test
  void aFullDiskLeavesNothing() throws Exception {
    onSmallDisk(
        "16k",
        disk -> {
          assertCannotSave(disk.resolve("a/b"), "model.safetensors: cannot write 112");
          try (Stream<Path> files = Files.list(disk)) {
            assertEquals(List.of(), files.toList(), "no folders either");
          }
        });
  }

  @Test
  void aFullDiskLeavesTheOldModel() throws Exception {
    // Room for one model of 112 kB and most of another.
    onSmallDisk(
        "200k",
        disk -> {
          model.save(disk);
          TreeMap<String, String> before = content(disk);
          model.pruneHeads(Heads.parse("0:0"));
          assertCannotSave(disk, "No space left on device");
          assertEquals(before, content(disk));
          try (Model old = Model.load(disk)) {
            assertTrue(old.prunedHeads().isEmpty());
          }
        });
  }

  /** Weights without their configuration would be no model. */
  @Test
  void whatCannotBeSavedWholeIsNotSavedInPart() throws IOException {
    Path folder = temporary.resolve("model");
    model.save(folder);
    Files.delete(folder.resolve("config.json"));
    Files.createDirectories(folder.resolve("config.json/inside"));
    TreeMap<String, String> before = content(folder);
    model.pruneHeads(Heads.parse("0:0"));
    assertCannotSave(folder, "config.json: cannot write");
    assertEquals(before, content(folder));
  }

  @Test
  void foldersThatCannotBeMade() throws IOException {
    Path file = Files.writeString(temporary.resolve("file"), "old");
    assertCannotSave(file.resolve("model"), "the folder could not be made");
    assertCannotSave(file, "the folder could not be made");
    assertEquals("old", Files.readString(file));
  }

  @Test
  void anInterruptLeavesTheOldModel() throws IOException {
    model.save(temporary);
    TreeMap<String, String> before = content(temporary);
    model.pruneHeads(Heads.parse("0:0"));
    Thread.currentThread().interrupt();
    BertologyException e = assertThrows(BertologyException.class, () -> model.save(temporary));
    assertTrue(Thread.interrupted());
    assertEquals(Kind.INTERRUPTED, e.kind(), e.getMessage());
    assertEquals(before, content(temporary));
    model.save(temporary);
    try (Model saved = Model.load(temporary)) {
      assertArrayEquals(logits(model), logits(saved));
    }
  }

  @Test
  void theTokenizerGoesAlong() throws IOException {
    Path original = temporary.resolve("original");
    model.save(original);
    Files.writeString(original.resolve("vocab.txt"), "[PAD]\n");
    Files.writeString(original.resolve("tokenizer_config.json"), "{}");
    Files.writeString(original.resolve("training_args.bin"), "not ours");
    Path copy = Files.createDirectory(temporary.resolve("copy"));
    Files.writeString(copy.resolve("tokenizer.json"), "of another model");
    Files.writeString(copy.resolve("README.md"), "not ours");
    try (Model loaded = Model.load(original)) {
      loaded.save(copy);
      loaded.save(original); // over itself
    }
    assertEquals(
        Set.of(
            "README.md", "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"),
        content(copy).keySet());
    assertTrue(content(original).containsKey("vocab.txt"));
    assertEquals("[PAD]\n", Files.readString(copy.resolve("vocab.txt")));
    try (Stream<Path> paths = Files.list(temporary)) {
      assertEquals(2, paths.count());
    }
  }

  /** Encoders of tasks that have no head here keep it, and the names that their class reads. */
  @ParameterizedTest
  @ValueSource(
      strings = {"BertForQuestionAnswering", "BertForTokenClassification", "BertForPreTraining"})
  void otherTasksKeepTheirNames(String architecture) throws IOException {
    Path original = temporary.resolve("original");
    model.save(original);
    Path config = original.resolve("config.json");
    Files.writeString(
        config, Files.readString(config).replace("BertForSequenceClassification", architecture));
    Path copy = temporary.resolve("copy");
    try (Model loaded = Model.load(original)) {
      loaded.save(copy);
    }
    assertEquals(names(original), names(copy));
    assertTrue(names(copy).contains("bert.embeddings.word_embeddings.weight"));
    assertTrue(Files.readString(copy.resolve("config.json")).contains(architecture));
  }

  @Test
  void theBareEncoderHasNoPrefix() {
    try (Model encoder = Model.load(Golden.folder("encoder"))) {
      encoder.save(temporary);
    }
    assertEquals(names(Golden.folder("encoder")), names(temporary));
    assertFalse(names(temporary).stream().anyMatch(name -> name.startsWith("bert.")));
  }

  private static Set<String> names(Path folder) {
    try (SafetensorsFile file = SafetensorsFile.open(folder.resolve("model.safetensors"))) {
      return Set.copyOf(file.tensors().keySet());
    }
  }

  @Test
  void classifiersThatAreRefusedChangeNothing() {
    float[] before = logits(model);
    float[][] weight = new float[2][32];
    weight[1][3] = Float.NaN;
    List<String> labels = List.of("no", "yes");
    assertRefused("classifier: weight 35 is NaN", labels, weight, new float[2]);
    weight[1][3] = 0;
    float[] infinite = {0, Float.POSITIVE_INFINITY};
    assertRefused("classifier: bias 1 is Infinity", labels, weight, infinite);
    assertRefused("2 rows of weights and 1 biases for 2 labels", labels, weight, new float[1]);
    assertRefused("row 0 has 31 weights", labels, new float[2][31], new float[2]);
    assertRefused("0 labels", List.of(), new float[0][], new float[0]);
    assertEquals(3, model.config().labels().size());
    assertArrayEquals(before, logits(model));
  }

  private void assertRefused(String text, List<String> labels, float[][] weight, float[] bias) {
    BertologyException e =
        assertThrows(
            BertologyException.class,
            () -> model.setClassifier(labels, ModelConfig.Pooling.CLS, weight, bias));
    assertEquals(Kind.INVALID_ARGUMENT, e.kind(), e.getMessage());
    assertTrue(e.getMessage().contains(text), e.getMessage());
  }

  @Test
  void aNewClassifierHasItsOwnKindOfLoss() throws IOException {
    Batch batch = Batch.of(new int[] {1, 2}, new int[] {3});
    Path original = temporary.resolve("original");
    try (Model regression = Model.load(Golden.folder("regression"))) {
      regression.save(original);
    }
    Path config = original.resolve("config.json");
    Files.writeString(
        config, Files.readString(config).replaceFirst("\\{", "{\"problem_type\": \"regression\","));
    Path copy = temporary.resolve("copy");
    try (Model regression = Model.load(original)) {
      assertTrue(regression.config().regression());
      regression.setClassifier(
          List.of("no", "yes"), ModelConfig.Pooling.CLS, new float[2][27], new float[2]);
      assertFalse(regression.config().regression());
      try (Activations run = regression.run(batch.withLabels(0, 1), Capture.LOSS)) {
        assertEquals(Math.log(2), run.loss().get(1), 1e-6);
      }
      regression.save(copy);
    }
    try (Model saved = Model.load(copy)) {
      assertFalse(saved.config().regression());
      assertEquals(List.of("no", "yes"), saved.config().labels());
    }
  }
}
