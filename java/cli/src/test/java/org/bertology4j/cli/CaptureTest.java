package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import org.bertology4j.Activations;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.FloatTensor;
import org.bertology4j.Heads;
import org.bertology4j.Model;
import org.bertology4j.checkpoint.SafetensorsFile;
import org.bertology4j.text.Batches;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.DatasetReader;
import org.bertology4j.text.Labels;
import org.bertology4j.text.Tokenizer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** {@code bertology capture}: the file has what the API gives. */
class CaptureTest {
  private static final int TEXTS = 7;

  @TempDir Path temporary;
  private Path model;
  private Path input;
  private Path output;

  @BeforeEach
  void makeModelAndTexts() {
    model = Tiny.classifier(temporary.resolve("model"), "bad", "fair", "good");
    input =
        Tiny.table(
            temporary.resolve("texts.tsv"),
            "sentence\tsecond\tlabel",
            Tiny.sentences(TEXTS, 9, 1),
            Tiny.sentences(TEXTS, 30, 2),
            Tiny.labels(TEXTS, 3, "bad", "fair", "good"));
    output = temporary.resolve("captures.safetensors");
  }

  /** A tensor of the file. */
  private record Stored(List<Long> shape, float[] values) {
    static Stored read(SafetensorsFile file, String name) {
      SafetensorsFile.Tensor tensor = file.tensor(name);
      ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes()).order(ByteOrder.LITTLE_ENDIAN);
      file.read(tensor, bytes);
      float[] values = new float[(int) tensor.bytes() / Float.BYTES];
      bytes.flip().asFloatBuffer().get(values);
      return new Stored(tensor.shape(), values);
    }

    float get(long... place) {
      long index = 0;
      for (int i = 0; i < shape.size(); i++) {
        index = index * shape.get(i) + (i < place.length ? place[i] : 0);
      }
      return values[(int) index];
    }
  }

  private static long[] integers(SafetensorsFile file, String name) {
    SafetensorsFile.Tensor tensor = file.tensor(name);
    ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes()).order(ByteOrder.LITTLE_ENDIAN);
    file.read(tensor, bytes);
    long[] values = new long[(int) tensor.bytes() / Long.BYTES];
    bytes.flip().asLongBuffer().get(values);
    return values;
  }

  private Object[] command(Path of, String what, Object... more) {
    List<Object> arguments =
        new ArrayList<>(List.of("capture", "--model_name_or_path", of, "--input", input));
    arguments.addAll(List.of("--output", output, "--capture", what));
    arguments.addAll(List.of(more));
    return arguments.toArray();
  }

  private String capture(Path of, String what, Object... more) {
    return Cli.succeeds(command(of, what, more));
  }

  private Batch batch(Path of, DatasetReader reader) {
    Dataset data = reader.read(input);
    try (Tokenizer tokenizer = Tokenizer.load(of)) {
      return Batches.ofExamples(tokenizer, data, data.size()).get(0);
    }
  }

  static List<Capture> allOfClassifiers() {
    List<Capture> ofLanguageModels =
        List.of(
            Capture.TOKEN_LOGITS,
            Capture.TOKEN_LOSSES,
            Capture.TOKEN_PREDICTIONS,
            Capture.LAST_BLOCK_STATE);
    return Capture.all().stream().filter(capture -> !ofLanguageModels.contains(capture)).toList();
  }

  /**
   * Where an element of the API's tensor of an example is in the file's: [n, K, d] is [K, S, d]
   * there, and n tokens of S.
   */
  private static void assertSame(
      Stored stored, FloatTensor expected, Capture capture, int example, int length) {
    long[] shape = expected.shape();
    boolean byHead = capture == Capture.HEAD_OUTPUTS || capture == Capture.HEAD_OUTPUT_GRADIENTS;
    double total = 0;
    for (long i = 0; i < shape[0]; i++) {
      for (long j = 0; j < (shape.length > 1 ? shape[1] : 1); j++) {
        for (long k = 0; k < (shape.length > 2 ? shape[2] : 1); k++) {
          float value =
              switch (shape.length) {
                case 1 -> expected.get(i);
                case 2 -> expected.get(i, j);
                default -> expected.get(i, j, k);
              };
          float found = byHead ? stored.get(example, j, i, k) : stored.get(example, i, j, k);
          assertEquals(value, found, capture + " of example " + example);
          total += Math.abs(value);
        }
      }
    }
    // All else is padding.
    int size = stored.values().length / TEXTS;
    double all = 0;
    for (int i = 0; i < size; i++) {
      all += Math.abs(stored.values()[example * size + i]);
    }
    assertEquals(total, all, 1e-9 * total, capture + " of example " + example + ", padding");
    assertTrue(total > 0, capture + " of example " + example + " of " + length + " tokens");
  }

  @Test
  void everyCaptureIsTheApis() {
    String all =
        allOfClassifiers().stream().map(Capture::toString).collect(Collectors.joining(","));
    String said = capture(model, all, "--pair_column", "second", "--label_column", "label");
    Batch batch =
        batch(
            model,
            DatasetReader.builder()
                .text("sentence")
                .pair("second")
                .label("label")
                .labels(Labels.classes("bad", "fair", "good"))
                .build());
    int longest = batch.longest();
    assertEquals(Tiny.POSITIONS, longest, "one pair is cut");
    assertTrue(said.startsWith(TEXTS + " texts of up to " + longest + " tokens: "), said);
    try (SafetensorsFile file = SafetensorsFile.open(output);
        Model loaded = Model.load(model);
        Activations run = loaded.run(batch, allOfClassifiers().toArray(new Capture[0]))) {
      assertTrue(said.contains(file.tensors().size() + " tensors in " + output), said);
      assertTokens(file, batch);
      Map<Capture, long[]> shapes = shapes(longest);
      int tensors = 3;
      for (Capture capture : allOfClassifiers()) {
        boolean states =
            capture == Capture.HIDDEN_STATES || capture == Capture.HIDDEN_STATE_GRADIENTS;
        int layers = capture.isLayered() ? Tiny.LAYERS + (states ? 1 : 0) : 1;
        tensors += layers;
        for (int l = 0; l < layers; l++) {
          Stored stored = Stored.read(file, capture + (capture.isLayered() ? "." + l : ""));
          long[] shape =
              LongStream.concat(LongStream.of(TEXTS), LongStream.of(shapes.get(capture))).toArray();
          assertEquals(LongStream.of(shape).boxed().toList(), stored.shape(), capture.toString());
          for (int b = 0; b < TEXTS; b++) {
            if (capture == Capture.LOSS) {
              assertEquals(run.loss().get(b), stored.get(b));
            } else {
              assertSame(stored, run.get(capture, l, b), capture, b, batch.length(b));
            }
          }
        }
      }
      assertEquals(tensors, file.tensors().size());
    }
  }

  private static Map<Capture, long[]> shapes(long tokens) {
    long width = 16;
    long heads = Tiny.HEADS;
    long layers = Tiny.LAYERS;
    return Map.ofEntries(
        Map.entry(Capture.LOGITS, new long[] {3}),
        Map.entry(Capture.POOLER_OUTPUT, new long[] {width}),
        Map.entry(Capture.HIDDEN_STATES, new long[] {tokens, width}),
        Map.entry(Capture.ATTENTIONS, new long[] {heads, tokens, tokens}),
        Map.entry(Capture.ATTENTION_ENTROPIES, new long[] {heads, tokens}),
        Map.entry(Capture.HEAD_OUTPUTS, new long[] {heads, tokens, width / heads}),
        Map.entry(Capture.LOSS, new long[0]),
        Map.entry(Capture.HEAD_GRADIENTS, new long[] {layers, heads}),
        Map.entry(Capture.TOKEN_HEAD_GRADIENTS, new long[] {layers, heads}),
        Map.entry(Capture.HEAD_OUTPUT_GRADIENTS, new long[] {heads, tokens, width / heads}),
        Map.entry(Capture.ATTENTION_GRADIENTS, new long[] {heads, tokens, tokens}),
        Map.entry(Capture.HIDDEN_STATE_GRADIENTS, new long[] {tokens, width}));
  }

  private static void assertTokens(SafetensorsFile file, Batch batch) {
    int longest = batch.longest();
    long[] ids = integers(file, "input_ids");
    long[] types = integers(file, "token_type_ids");
    long[] mask = integers(file, "attention_mask");
    assertEquals(List.of((long) TEXTS, (long) longest), file.tensor("input_ids").shape());
    assertEquals("[[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]", file.metadata().get("heads"));
    for (int b = 0; b < TEXTS; b++) {
      for (int i = 0; i < longest; i++) {
        boolean there = i < batch.length(b);
        int place = b * longest + i;
        assertEquals(there ? batch.inputIds(b)[i] : 0, ids[place]);
        assertEquals(there ? batch.tokenTypeIds(b)[i] : 0, types[place]);
        assertEquals(there ? 1 : 0, mask[place]);
      }
    }
  }

  @Test
  void rowsKeepTheirOrderOverManyBatches() {
    int texts = 700; // of about 13 tokens: more than one batch
    List<String> sentences = Tiny.sentences(texts, 20, 5);
    input = Tiny.table(temporary.resolve("many.csv"), "sentence", sentences);
    capture(model, "logits");
    try (SafetensorsFile file = SafetensorsFile.open(output);
        Model loaded = Model.load(model)) {
      Stored logits = Stored.read(file, "logits");
      Batch batch = batch(model, DatasetReader.builder().text("sentence").build());
      assertTrue(batch.tokens() > 4096, "tokens: " + batch.tokens());
      try (Activations run = loaded.run(batch, Capture.LOGITS)) {
        for (int b = 0; b < texts; b++) {
          for (int c = 0; c < 3; c++) {
            assertEquals(run.logits().get(b, c), logits.get(b, c), 1e-5, "example " + b);
          }
        }
      }
    }
  }

  @Test
  void aLayerWithoutHeadsHasEmptyTensors() {
    Path pruned = temporary.resolve("pruned");
    try (Model loaded = Model.load(model)) {
      loaded.pruneHeads(Heads.parse("0:1;1:0,1,2,3"));
      loaded.save(pruned);
    }
    capture(pruned, "attentions, head_outputs,attention_entropies,logits");
    try (SafetensorsFile file = SafetensorsFile.open(output)) {
      long tokens = file.tensor("input_ids").shape().get(1);
      assertEquals("[[0, 2, 3], [], [0, 1, 2, 3]]", file.metadata().get("heads"));
      assertEquals(List.of(7L, 3L, tokens, tokens), file.tensor("attentions.0").shape());
      assertEquals(List.of(7L, 0L, tokens, tokens), file.tensor("attentions.1").shape());
      assertEquals(List.of(7L, 0L, tokens, 4L), file.tensor("head_outputs.1").shape());
      assertEquals(List.of(7L, 0L, tokens), file.tensor("attention_entropies.1").shape());
    }
  }

  @Test
  void logitsOfAMaskedLanguageModelAreByToken() {
    Path maskedLm = Tiny.maskedLm(temporary.resolve("masked-lm"));
    capture(maskedLm, "logits");
    Batch batch = batch(maskedLm, DatasetReader.builder().text("sentence").build());
    try (SafetensorsFile file = SafetensorsFile.open(output);
        Model loaded = Model.load(maskedLm);
        Activations run = loaded.run(batch, Capture.TOKEN_LOGITS)) {
      Stored logits = Stored.read(file, "logits");
      assertEquals(List.of(7L, (long) batch.longest(), 17L), logits.shape());
      for (int b = 0; b < TEXTS; b++) {
        assertSame(logits, run.tokenLogits(b), Capture.TOKEN_LOGITS, b, batch.length(b));
      }
    }
  }

  @Test
  void aModelMayBeNamedByItsFile() throws IOException {
    capture(model, "pooler_output");
    byte[] ofFolder = Files.readAllBytes(output);
    capture(model.resolve("model.safetensors"), "pooler_output");
    assertEquals(
        ByteBuffer.wrap(ofFolder), ByteBuffer.wrap(Files.readAllBytes(output)), "the same file");
  }

  @Test
  void textsAreCutWhereItIsSaid() {
    capture(model, "logits", "--max_seq_length", 5);
    try (SafetensorsFile file = SafetensorsFile.open(output)) {
      assertEquals(List.of(7L, 5L), file.tensor("input_ids").shape());
    }
    capture(model, "logits", "--pair_column", "second", "--max_seq_length", 500);
    try (SafetensorsFile file = SafetensorsFile.open(output)) {
      assertEquals((long) Tiny.POSITIONS, file.tensor("input_ids").shape().get(1));
    }
  }

  private void fails(String saying, Path of, String what, Object... more) throws IOException {
    Cli.fails(saying, command(of, what, more));
    assertNothingWritten();
  }

  private void assertNothingWritten() throws IOException {
    try (var files = Files.list(temporary)) {
      assertEquals(
          List.of(),
          files
              .map(Path::getFileName)
              .map(Path::toString)
              .filter(n -> n.contains("captures"))
              .toList());
    }
  }

  @Test
  void failuresLeaveNothing() throws IOException {
    fails("nowhere: no such file or folder", temporary.resolve("nowhere"), "logits");
    fails("no column \"text\"", model, "logits", "--text_column", "text");
    fails("no column \"mood\"", model, "loss", "--label_column", "mood");
    fails("unknown label", model, "loss", "--label_column", "second");
    fails("lacks classifier.weight", Tiny.encoder(temporary.resolve("encoder")), "logits");
    fails("cuda:0", model, "logits", "--device", "cuda:0");
    Path none = Tiny.write(temporary.resolve("none.tsv"), List.of("sentence\tlabel"));
    input = none;
    fails("none.tsv has no examples", model, "logits");
    input = Tiny.write(temporary.resolve("blank.tsv"), List.of("sentence\tlabel", "\tbad"));
    fails("blank.tsv:2: the text is blank", model, "logits");
    input = temporary.resolve("missing.tsv");
    fails("missing.tsv does not exist", model, "logits");
    input = temporary.resolve("texts.doc");
    fails("the format cannot be told from the name", model, "logits");
  }

  @Test
  void aTruncatedModelIsAFailure() throws IOException {
    Path weights = model.resolve("model.safetensors");
    byte[] whole = Files.readAllBytes(weights);
    for (int length : new int[] {0, 5, 100, whole.length - 1}) {
      Files.write(weights, Arrays.copyOf(whole, length));
      fails("model.safetensors", model, "logits");
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {".", "nowhere/captures", "texts.tsv/captures"})
  void whatCannotBeWrittenIsToldBeforeTheWork(String name) throws IOException {
    output = temporary.resolve(name);
    // The model is not even looked for.
    fails(" is ", temporary.resolve("missing"), "logits");
  }

  @Test
  void anInterruptedCaptureLeavesNothing() throws IOException {
    Thread.currentThread().interrupt();
    try {
      Cli.fails("interrupted", command(model, "logits"));
    } finally {
      assertTrue(Thread.interrupted(), "the interrupt is not swallowed");
    }
    assertNothingWritten();
  }
}
