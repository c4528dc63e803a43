package org.bertology4j.checkpoint;

import static org.bertology4j.checkpoint.Golden.assertInvalid;
import static org.bertology4j.checkpoint.Golden.assertSameWeights;
import static org.bertology4j.checkpoint.Golden.assertUnsupported;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.bertology4j.ModelConfig;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class OnnxExportTest {
  private static final String QUERY = "encoder.layer.0.attention.self.query";
  private static final String DECODER = "cls.predictions.decoder.weight";

  @TempDir Path folder;

  @ParameterizedTest
  @CsvSource({
    "onnx/script-encoder.onnx,encoder",
    "onnx/script-sequence-classification.onnx,sequence-classification",
    "onnx/dynamo-sequence-classification.onnx,sequence-classification"
  })
  void readsExportsOfTorch(String export, String original) {
    try (Checkpoint expected = Checkpoint.open(Golden.path(original));
        Checkpoint actual = Checkpoint.open(Golden.path(export))) {
      assertSameWeights(expected, actual, 0);
      assertSameConfig(expected.config(), actual.config());
    }
  }

  @ParameterizedTest
  @CsvSource({"onnx/script-masked-lm.onnx", "onnx/dynamo-masked-lm.onnx"})
  void readsTheHeadForMaskedTokens(String export) {
    try (Checkpoint expected = Checkpoint.open(Golden.path("masked-lm"));
        Checkpoint actual = Checkpoint.open(Golden.path(export))) {
      // An export has the tied matrix twice.
      assertSameWeights(expected, actual, 0, DECODER);
      assertArrayEquals(
          Golden.values(expected, "embeddings.word_embeddings.weight"),
          Golden.values(actual, DECODER));
      assertSameConfig(expected.config(), actual.config());
      assertTrue(actual.config().tiedEmbeddings());
    }
  }

  @Test
  void readsExternalDataInHalfPrecision() {
    try (Checkpoint expected = Checkpoint.open(Golden.path("encoder"));
        Checkpoint actual = Checkpoint.open(Golden.path("onnx-external"))) {
      assertSameWeights(expected, actual, 0.0005);
      assertSameConfig(expected.config(), actual.config());
      assertEquals(
          StoredType.FLOAT16, actual.tensors().get("embeddings.word_embeddings.weight").type());
      assertEquals(Golden.path("onnx-external"), actual.source());
    }
  }

  private static void assertSameConfig(ModelConfig expected, ModelConfig actual) {
    assertEquals(expected.architecture(), actual.architecture());
    assertEquals(expected.task(), actual.task());
    assertEquals(expected.numHiddenLayers(), actual.numHiddenLayers());
    assertEquals(expected.numAttentionHeads(), actual.numAttentionHeads());
    assertEquals(expected.hiddenSize(), actual.hiddenSize());
    assertEquals(expected.intermediateSize(), actual.intermediateSize());
    assertEquals(expected.vocabSize(), actual.vocabSize());
    assertEquals(expected.maxPositionEmbeddings(), actual.maxPositionEmbeddings());
    assertEquals(expected.typeVocabSize(), actual.typeVocabSize());
    assertEquals(expected.hiddenAct(), actual.hiddenAct());
    assertEquals(expected.layerNormEps(), actual.layerNormEps());
    if (expected.task() == ModelConfig.Task.SEQUENCE_CLASSIFICATION) {
      assertEquals(expected.labels(), actual.labels());
    }
  }

  @Test
  void prefersTheConfigurationBesideTheFile() throws IOException {
    String config = Files.readString(Golden.path("sequence-classification/config.json"));
    String changed = config.replace("LABEL_4", "SURPRISE").replace("1e-12", "1e-5");
    Path onnx = Files.createDirectories(folder.resolve("onnx"));
    Files.copy(Golden.path("onnx/script-sequence-classification.onnx"), onnx.resolve("model.onnx"));
    for (Path beside : List.of(folder, onnx)) {
      Path file = beside.resolve("config.json");
      Files.writeString(file, changed);
      for (Path path : List.of(folder, onnx, onnx.resolve("model.onnx"))) {
        try (Checkpoint checkpoint = Checkpoint.open(path)) {
          assertEquals("SURPRISE", checkpoint.config().labels().get(4));
          assertEquals(1e-5f, checkpoint.config().layerNormEps());
        }
      }
      Files.delete(file);
    }
  }

  @Test
  void takesTheTaskFromTheWeightsWhenTheHeadIsLeftOut() throws IOException {
    Files.copy(Golden.path("onnx/script-encoder.onnx"), folder.resolve("model.onnx"));
    String config = Files.readString(Golden.path("encoder/config.json"));
    Files.writeString(
        folder.resolve("config.json"), config.replace("BertModel", "BertForMaskedLM"));
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      assertEquals(ModelConfig.Task.ENCODER, checkpoint.config().task());
    }
  }

  @ParameterizedTest
  @CsvSource({
    // what is no longer there, what stands for it, what cannot be told
    "Erf,Erg,hidden_act",
    "Reshape,Reshapf,num_attention_heads",
    "Sqrt,Sqru,layer_norm_eps"
  })
  void asksForTheConfigurationIfTheGraphDoesNotTell(String from, String to, String entry)
      throws IOException {
    Path path = folder.resolve("model.onnx");
    Files.write(path, replaced(Golden.path("onnx/script-encoder.onnx"), from, to));
    assertInvalid(
        () -> Golden.open(path),
        path.toString(),
        entry + " cannot be told from the graph",
        "config.json");
    Files.copy(Golden.path("encoder/config.json"), folder.resolve("config.json"));
    Golden.open(path);
  }

  private static byte[] replaced(Path file, String from, String to) throws IOException {
    // Latin 1 keeps every byte.
    String bytes = Files.readString(file, StandardCharsets.ISO_8859_1);
    return bytes.replace(from, to).getBytes(StandardCharsets.ISO_8859_1);
  }

  @ParameterizedTest
  @EnumSource(TinyOnnx.Product.class)
  void tellsHowMatricesAreStored(TinyOnnx.Product product) throws IOException {
    for (boolean names : new boolean[] {true, false}) {
      TinyOnnx graph = new TinyOnnx();
      graph.product = product;
      graph.nodesHaveNames = names; // else the bias names the matrix
      Path path = graph.build().reshape(0, 0, 2, 2).write(folder.resolve("model.onnx"));
      try (Checkpoint checkpoint = Checkpoint.open(path)) {
        assertEquals(graph.expected().keySet().size(), checkpoint.tensors().size());
        graph
            .expected()
            .forEach(
                (name, values) -> assertArrayEquals(values, Golden.values(checkpoint, name), name));
        assertEquals(
            List.of(6L, 4L),
            checkpoint.tensors().get("encoder.layer.0.intermediate.dense.weight").shape());
        assertEquals(1e-7f, checkpoint.config().layerNormEps());
      }
    }
  }

  @ParameterizedTest
  @EnumSource(TinyOnnx.Product.class)
  void tellsWhetherTheDecoderIsTied(TinyOnnx.Product product) throws IOException {
    TinyOnnx graph = new TinyOnnx();
    graph.product = product;
    graph.build().reshape(0, 0, 2, 2);
    float[] words = graph.expected().get("embeddings.word_embeddings.weight").clone();
    Path path = graph.decoder(words).write(folder.resolve("model.onnx"));
    try (Checkpoint checkpoint = Checkpoint.open(path)) {
      assertArrayEquals(words, Golden.values(checkpoint, DECODER));
      assertTrue(checkpoint.config().tiedEmbeddings());
    }
    words[words.length - 2] += 1;
    TinyOnnx untied = new TinyOnnx();
    untied.product = product;
    untied.build().reshape(0, 0, 2, 2).decoder(words).write(path);
    try (Checkpoint checkpoint = Checkpoint.open(path)) {
      assertArrayEquals(words, Golden.values(checkpoint, DECODER));
      assertFalse(checkpoint.config().tiedEmbeddings());
    }
  }

  @Test
  void findsTheHeadsInConstantsOfAnyKind() throws IOException {
    assertEquals(2, heads(new TinyOnnx().build().reshape(0, 0, 2, 2)));
    assertEquals(4, heads(new TinyOnnx().build().reshape(0, 0, -1, 1)));
    assertEquals(1, heads(new TinyOnnx().build().reshape(-1, 1, 4)));

    ProtoBytes integers = TinyOnnx.tensor("shape", TinyOnnx.INT64, 4);
    for (int size : new int[] {0, 0, 1, 4}) {
      integers.number(7, size);
    }
    assertEquals(1, heads(new TinyOnnx().build().initializer("shape", integers).reshape("shape")));

    ProtoBytes list = new ProtoBytes().text(1, "value_ints");
    for (int size : new int[] {0, 0, 4, 1}) {
      list.number(8, size);
    }
    assertEquals(
        4,
        heads(
            new TinyOnnx().build().node("Constant", "", List.of(), "list", list).reshape("list")));

    ProtoBytes two = new ProtoBytes().text(1, "value_int").number(3, 2);
    assertEquals(
        2,
        heads(
            new TinyOnnx()
                .build()
                .node("Constant", "", List.of(), "two", two)
                .node("Concat", "", List.of("batch", "tokens", "unknown", "two"), "sizes")
                .reshape("sizes")));
  }

  private int heads(TinyOnnx graph) throws IOException {
    Path path = graph.write(folder.resolve("model.onnx"));
    try (Checkpoint checkpoint = Checkpoint.open(path)) {
      return checkpoint.config().numAttentionHeads();
    }
  }

  @Test
  void refusesHeadsThatDoNotFit() {
    assertInvalid(() -> heads(new TinyOnnx().build().reshape(0, 0, 1, 2)), "1 heads of 2");
    assertInvalid(() -> heads(new TinyOnnx().build().reshape(0, 0, 2, 3)), "divides 4");
    assertInvalid(() -> heads(new TinyOnnx().build().reshape(0, 0, 2, -1)), "divides 4");
    assertInvalid(() -> heads(new TinyOnnx().build().reshape("unknown")), "divides 4");
    assertInvalid(() -> heads(new TinyOnnx().build()), "is not reshaped");
  }

  @ParameterizedTest
  @CsvSource({"Erf,GELU", "Gelu,GELU", "Relu,RELU", "Tanh,GELU_NEW"})
  void findsTheActivation(String operation, ModelConfig.HiddenAct expected) throws IOException {
    TinyOnnx graph = new TinyOnnx();
    graph.activation = operation;
    Path path = graph.build().reshape(0, 0, 2, 2).write(folder.resolve("model.onnx"));
    try (Checkpoint checkpoint = Checkpoint.open(path)) {
      assertEquals(expected, checkpoint.config().hiddenAct());
    }
  }

  private static float[] bias(TinyOnnx graph) {
    return graph.expected().get(QUERY + ".bias");
  }

  private void assertBias(TinyOnnx graph, ProtoBytes tensor) throws IOException {
    Path path =
        graph
            .initializer(QUERY + ".bias", tensor)
            .reshape(0, 0, 2, 2)
            .write(folder.resolve("model.onnx"));
    try (Checkpoint checkpoint = Checkpoint.open(path)) {
      assertArrayEquals(bias(graph), Golden.values(checkpoint, QUERY + ".bias"));
    }
  }

  @Test
  void readsTheWaysToStoreATensor() throws IOException {
    TinyOnnx graph = new TinyOnnx().build();
    ByteBuffer floats = ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN);
    floats.asFloatBuffer().put(bias(graph));
    assertBias(graph, TinyOnnx.tensor(QUERY + ".bias", TinyOnnx.FLOAT, 4).bytes(4, floats.array()));

    ByteBuffer halves = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
    for (float value : bias(graph)) {
      halves.putShort((short) (Float.floatToIntBits(value) >>> 16));
    }
    assertBias(
        graph, TinyOnnx.tensor(QUERY + ".bias", TinyOnnx.BFLOAT16, 4).bytes(9, halves.array()));

    byte[] data = Arrays.copyOf(new byte[7], 7 + 16 + 3);
    System.arraycopy(floats.array(), 0, data, 7, 16);
    Files.write(folder.resolve("weights.bin"), data);
    assertBias(graph, external("weights.bin", "7", "16"));
    Path onnx = folder.resolve("model.onnx");

    external(graph, external("weights.bin", "11", "16"), onnx);
    assertInvalid(() -> Golden.open(onnx), "weights.bin", "26 bytes");
    external(graph, external("weights.bin", "7", "12"), onnx);
    assertInvalid(() -> Golden.open(onnx), QUERY, "12 bytes, expected 16");
    external(graph, external("weights.bin", "x", "16"), onnx);
    assertInvalid(() -> Golden.open(onnx), "offset", "\"x\"");
    external(graph, external("none.bin", "0", "16"), onnx);
    assertInvalid(() -> Golden.open(onnx), "none.bin", "missing");
    external(graph, external("../weights.bin", "0", "16"), onnx);
    assertInvalid(() -> Golden.open(onnx), "../weights.bin", "leads out of the folder");
    external(graph, TinyOnnx.tensor(QUERY + ".bias", TinyOnnx.FLOAT, 4).number(14, 1), onnx);
    assertInvalid(() -> Golden.open(onnx), QUERY, "leads out of the folder");
  }

  private static void external(TinyOnnx graph, ProtoBytes tensor, Path onnx) throws IOException {
    graph.initializer(QUERY + ".bias", tensor).write(onnx);
  }

  private static ProtoBytes external(String location, String offset, String length) {
    return TinyOnnx.tensor(QUERY + ".bias", TinyOnnx.FLOAT, 4)
        .message(13, new ProtoBytes().text(1, "location").text(2, location))
        .message(13, new ProtoBytes().text(1, "offset").text(2, offset))
        .message(13, new ProtoBytes().text(1, "length").text(2, length))
        .number(14, 1);
  }

  private Path withBias(ProtoBytes tensor) throws IOException {
    return new TinyOnnx()
        .build()
        .initializer(QUERY + ".bias", tensor)
        .write(folder.resolve("model.onnx"));
  }

  @Test
  void refusesWaysThatItCannotRead() throws IOException {
    String name = QUERY + ".bias";
    Path doubles = withBias(TinyOnnx.tensor(name, TinyOnnx.DOUBLE, 4).bytes(9, new byte[32]));
    assertUnsupported(() -> Golden.open(doubles), name, "DOUBLE", "float32");
    Path integers = withBias(TinyOnnx.tensor(name, TinyOnnx.FLOAT16, 4).bytes(5, new byte[4]));
    assertUnsupported(() -> Golden.open(integers), name, "element by element");
    Path shorter = withBias(TinyOnnx.tensor(name, TinyOnnx.FLOAT, 4).bytes(9, new byte[15]));
    assertInvalid(() -> Golden.open(shorter), name, "15 bytes, expected 16", "[4]");
    Path negative = withBias(TinyOnnx.tensor(name, TinyOnnx.FLOAT, -4).bytes(9, new byte[16]));
    assertInvalid(() -> Golden.open(negative), name, "[-4]");
    Path large =
        withBias(TinyOnnx.tensor(name, TinyOnnx.FLOAT, 1L << 40, 1L << 40).bytes(9, new byte[0]));
    assertInvalid(() -> Golden.open(large), name, "no file can hold");
  }

  @Test
  void doesNotCountLabelsThatTakeNoSpace() throws IOException {
    String name = "classifier.weight";
    Path path =
        new TinyOnnx()
            .build()
            .initializer(
                name, TinyOnnx.tensor(name, TinyOnnx.FLOAT, 1L << 40, 0).bytes(9, new byte[0]))
            .reshape(0, 0, 2, 2)
            .write(folder.resolve("model.onnx"));
    assertInvalid(() -> Golden.open(path), "1099511627776 labels");
  }

  @Test
  void saysWhyTheWeightsAreNotThere() throws IOException {
    Path path = folder.resolve("model.onnx");
    String word = "embeddings.word_embeddings.weight";
    new TinyOnnx().build().without(word).write(path);
    assertInvalid(() -> Golden.open(path), path.toString(), "nothing is known to be", word);

    new TinyOnnx().build().without(word).node("MatMulInteger", "", List.of(), "y").write(path);
    assertUnsupported(() -> Golden.open(path), "MatMulInteger", "quantised");

    TinyOnnx fused = new TinyOnnx().build().without(word);
    fused.domain = "com.microsoft";
    fused.node("EmbedLayerNormalization", "", List.of(), "y").write(path);
    assertUnsupported(() -> Golden.open(path), "EmbedLayerNormalization", "optimizer");
  }

  @Test
  void reportsFilesThatAreNoOnnx() throws IOException {
    Path path = folder.resolve("model.onnx");
    Files.write(path, new byte[0]);
    assertInvalid(() -> Golden.open(path), path.toString(), "no graph");
    Files.writeString(path, "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n");
    assertInvalid(() -> Golden.open(path), path.toString(), "not an ONNX file");
    byte[] whole = Files.readAllBytes(Golden.path("onnx/script-encoder.onnx"));
    Files.write(path, Arrays.copyOf(whole, whole.length / 2));
    assertInvalid(() -> Golden.open(path), path.toString(), "truncated");
  }

  @Test
  void derivesTheEntriesOfHuggingFace() {
    try (Checkpoint checkpoint = Checkpoint.open(Golden.path("onnx/script-encoder.onnx"))) {
      JsonObject json = checkpoint.config().toJson();
      assertEquals("bert", json.get("model_type").getAsString());
      assertEquals("gelu", json.get("hidden_act").getAsString());
      assertEquals("BertModel", json.getAsJsonArray("architectures").get(0).getAsString());
    }
  }
}
