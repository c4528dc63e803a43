package org.bertology4j.checkpoint;

import static org.bertology4j.checkpoint.Golden.assertFails;
import static org.bertology4j.checkpoint.Golden.assertInvalid;
import static org.bertology4j.checkpoint.Golden.assertSameWeights;
import static org.bertology4j.checkpoint.Golden.assertUnsupported;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.bertology4j.BertologyException.Kind;
import org.bertology4j.ModelConfig;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class HuggingFaceFolderTest {
  private static final String INDEX = "model.safetensors.index.json";
  private static final String FIRST = "model-00001-of-00002.safetensors";
  private static final String SECOND = "model-00002-of-00002.safetensors";

  @TempDir Path folder;

  @Test
  void readsTheConfigurationAndTheTensors() {
    try (Checkpoint checkpoint = Checkpoint.open(Golden.path("sequence-classification"))) {
      ModelConfig config = checkpoint.config();
      assertEquals(1, config.numHiddenLayers());
      assertEquals(4, config.numAttentionHeads());
      assertEquals(8, config.hiddenSize());
      assertEquals(5, config.labels().size());
      assertEquals(ModelConfig.Task.SEQUENCE_CLASSIFICATION, config.task());
      StoredTensor intermediate =
          checkpoint.tensors().get("encoder.layer.0.intermediate.dense.weight");
      assertEquals(List.of(12L, 8L), intermediate.shape());
      assertEquals(StoredType.FLOAT32, intermediate.type());
      assertFalse(intermediate.transposed());
      assertEquals(List.of(5L, 8L), checkpoint.tensors().get("classifier.weight").shape());
      assertEquals(Golden.path("sequence-classification"), checkpoint.source());
    }
  }

  @Test
  void takesThePrefixOffTheNamesAndKeepsTheValues() {
    Path path = Golden.path("sequence-classification");
    try (Checkpoint checkpoint = Checkpoint.open(path);
        SafetensorsFile file = SafetensorsFile.open(path.resolve("model.safetensors"))) {
      assertEquals(file.tensors().size(), checkpoint.tensors().size());
      file.tensors()
          .forEach(
              (name, tensor) -> {
                ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes());
                file.read(tensor, bytes);
                bytes.flip().order(ByteOrder.LITTLE_ENDIAN);
                float[] expected = new float[bytes.remaining() / 4];
                bytes.asFloatBuffer().get(expected);
                String plain = name.startsWith("bert.") ? name.substring(5) : name;
                assertArrayEquals(expected, Golden.values(checkpoint, plain), name);
              });
      assertTrue(file.tensors().containsKey("bert.pooler.dense.weight"));
    }
  }

  @ParameterizedTest
  @CsvSource({"float16,FLOAT16,0.0005", "bfloat16,BFLOAT16,0.004"})
  void readsHalfPrecision(String name, StoredType type, double tolerance) {
    try (Checkpoint expected = Checkpoint.open(Golden.path("encoder"));
        Checkpoint actual = Checkpoint.open(Golden.path(name))) {
      assertSameWeights(expected, actual, tolerance);
      actual.tensors().values().forEach(tensor -> assertEquals(type, tensor.type()));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"sharded", "old-names"})
  void readsShardsAndOldNames(String name) {
    try (Checkpoint expected = Checkpoint.open(Golden.path("encoder"));
        Checkpoint actual = Checkpoint.open(Golden.path(name))) {
      assertSameWeights(expected, actual, 0);
      assertEquals(expected.config().toJson(), actual.config().toJson());
    }
  }

  @Test
  void opensAFileOfWeightsWithTheConfigurationBesideIt() {
    try (Checkpoint expected = Checkpoint.open(Golden.path("encoder"));
        Checkpoint actual = Checkpoint.open(Golden.path("encoder/model.safetensors"))) {
      assertSameWeights(expected, actual, 0);
    }
  }

  @Test
  void wantsTheConfiguration() throws IOException {
    Golden.copy("encoder", folder);
    Files.delete(folder.resolve("config.json"));
    assertInvalid(() -> Golden.open(folder), folder + " has no config.json", "model.safetensors");
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "[]", "null", "{", "{\"a\": 1} x", "{'a': 1}", "{\"a\": 1,}"})
  void reportsAConfigurationThatIsNoJsonObject(String text) throws IOException {
    Golden.copy("encoder", folder);
    Path config = Files.writeString(folder.resolve("config.json"), text);
    assertInvalid(() -> Golden.open(folder), config.toString());
  }

  @Test
  void reportsAConfigurationAndAnIndexThatAreNotUtf8() throws IOException {
    Golden.copy("sharded", folder);
    Path index = folder.resolve(INDEX);
    byte[] bytes = Files.readAllBytes(index);
    bytes[bytes.length / 2] = (byte) 0xff;
    Files.write(index, bytes);
    assertInvalid(() -> Golden.open(folder), index.toString(), "not valid UTF-8");
    Path config = folder.resolve("config.json");
    Files.write(config, new byte[] {'{', '"', (byte) 0xc3, '(', '"', ':', '1', '}'});
    Files.copy(Golden.path("encoder/model.safetensors"), folder.resolve("model.safetensors"));
    assertInvalid(() -> Golden.open(folder), config.toString(), "not valid UTF-8");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "\"architectures\": [null]",
        "\"architectures\": [{}]",
        "\"tie_word_embeddings\": []",
        "\"pruned_heads\": {\"0\": [[]]}",
        "\"pruned_heads\": {\"0\": 1}"
      })
  void reportsEntriesOfAnotherType(String entry) throws IOException {
    Golden.copy("encoder", folder);
    Path config = folder.resolve("config.json");
    String rest = Files.readString(config);
    Files.writeString(config, "{" + entry + rest.substring(rest.indexOf("],") + 1));
    assertInvalid(() -> Golden.open(folder), config.toString());
  }

  @Test
  void refusesPickles() throws IOException {
    Golden.copy("encoder", folder);
    Files.move(folder.resolve("model.safetensors"), folder.resolve("pytorch_model.bin"));
    assertUnsupported(
        () -> Golden.open(folder), "pytorch_model.bin", "can run code", "safetensors");
    assertUnsupported(() -> Golden.open(folder.resolve("pytorch_model.bin")), "can run code");
  }

  @Test
  void namesAShardThatIsMissing() throws IOException {
    Golden.copy("sharded", folder);
    Files.delete(folder.resolve(SECOND));
    assertInvalid(() -> Golden.open(folder), INDEX, SECOND, "missing");
  }

  @Test
  void namesATensorThatIsNotInItsShard() throws IOException {
    Golden.copy("sharded", folder);
    changeIndex("\"pooler.dense.bias\": \"" + SECOND, "\"pooler.dense.bias\": \"" + FIRST);
    assertInvalid(() -> Golden.open(folder), "\"pooler.dense.bias\" is not in the shard", FIRST);
  }

  @Test
  void namesATensorThatIsInTwoShards() throws IOException {
    Golden.copy("sharded", folder);
    Files.copy(folder.resolve(FIRST), folder.resolve("model-3.safetensors"));
    changeIndex("\"weight_map\": {", "\"weight_map\": {\"a\": \"model-3.safetensors\",");
    assertInvalid(() -> Golden.open(folder), "is in the shard", "model-3.safetensors", FIRST);
  }

  @ParameterizedTest
  @ValueSource(strings = {"../other.safetensors", "/other.safetensors", "x/../../y", "", "."})
  void keepsShardsInsideTheFolder(String shard) throws IOException {
    Golden.copy("sharded", folder);
    changeIndex(FIRST, shard);
    assertInvalid(() -> Golden.open(folder), INDEX, "leads out of the folder");
  }

  private void changeIndex(String from, String to) throws IOException {
    Path index = folder.resolve(INDEX);
    String text = Files.readString(index);
    assertTrue(text.contains(from));
    Files.writeString(index, text.replace(from, to));
  }

  @Test
  void refusesWeightsOfOtherTypesByName() throws IOException {
    for (String type : List.of("F64", "F8_E4M3", "I8")) {
      writeEncoderWith("bert.pooler.dense.bias", type);
      assertUnsupported(() -> Golden.open(folder), "bert.pooler.dense.bias", type, "bfloat16");
    }
  }

  @Test
  void leavesOutWhatIsNoParameterOfFloats() throws IOException {
    writeEncoderWith("bert.embeddings.position_ids", "I64");
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      assertEquals(List.of("embeddings.word_embeddings.weight"), names(checkpoint));
    }
    writeEncoderWith("some.other.table", "F64");
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      assertEquals(List.of("embeddings.word_embeddings.weight"), names(checkpoint));
    }
  }

  @Test
  void callsTheMaskedTokenBiasByOneName() throws IOException {
    writeEncoderWith("cls.predictions.decoder.bias", "F32");
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      assertEquals(
          List.of("embeddings.word_embeddings.weight", "cls.predictions.bias"), names(checkpoint));
    }
  }

  @Test
  void namesTwoTensorsThatAreOneParameter() throws IOException {
    writeEncoderWith("embeddings.word_embeddings.weight", "F32");
    assertInvalid(
        () -> Golden.open(folder),
        "\"bert.embeddings.word_embeddings.weight\" and \"embeddings.word_embeddings.weight\"",
        "the same parameter");
  }

  @Test
  void wantsWeightsOfBert() throws IOException {
    Golden.copy("encoder", folder);
    Golden.safetensors(
        folder.resolve("model.safetensors"),
        "{\"wte.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        4);
    assertInvalid(() -> Golden.open(folder), "no weights of BERT", "wte.weight");
  }

  /** A table of words, and one other tensor of two elements. */
  private void writeEncoderWith(String name, String type) throws IOException {
    Files.copy(
        Golden.path("encoder/config.json"),
        folder.resolve("config.json"),
        StandardCopyOption.REPLACE_EXISTING);
    SafetensorsType parsed = SafetensorsType.valueOf(type);
    SafetensorsWriter.write(
        folder.resolve("model.safetensors"),
        Map.of(),
        Stream.of(
                Map.entry("bert.embeddings.word_embeddings.weight", SafetensorsType.F32),
                Map.entry(name, parsed))
            .map(
                entry ->
                    SafetensorsWriter.Entry.of(
                        entry.getKey(),
                        entry.getValue(),
                        List.of(2L),
                        ByteBuffer.allocate(entry.getValue().bits() / 4)))
            .toList());
  }

  private static List<String> names(Checkpoint checkpoint) {
    return List.copyOf(checkpoint.tensors().keySet());
  }

  @Test
  void readsIntoHeapAndDirectBuffersAndChecksThem() {
    try (Checkpoint checkpoint = Checkpoint.open(Golden.path("encoder"))) {
      StoredTensor tensor = checkpoint.tensors().get("pooler.dense.weight");
      ByteBuffer heap = ByteBuffer.allocate(300);
      heap.position(20).limit(20 + 256);
      checkpoint.read(tensor, heap);
      assertEquals(276, heap.position());
      assertEquals(276, heap.limit());
      ByteBuffer direct = ByteBuffer.allocateDirect(256);
      checkpoint.read(tensor, direct);
      assertEquals(heap.slice(20, 256), direct.flip());

      assertInvalid(
          () -> checkpoint.read(tensor, ByteBuffer.allocate(255)),
          "pooler.dense.weight",
          "256 bytes",
          "255");
      assertInvalid(
          () -> checkpoint.read(tensor, ByteBuffer.allocate(256).asReadOnlyBuffer()), "read-only");
      StoredTensor other = new StoredTensor("x", StoredType.FLOAT16, List.of(2L), false);
      assertInvalid(() -> checkpoint.read(other, ByteBuffer.allocate(4)), "no tensor x float16");
    }
  }

  @Test
  void refusesToReadOnceClosed() {
    Checkpoint checkpoint = Checkpoint.open(Golden.path("encoder"));
    StoredTensor tensor = checkpoint.tensors().get("pooler.dense.weight");
    checkpoint.close();
    checkpoint.close();
    assertFails(
        Kind.CLOSED, () -> checkpoint.read(tensor, ByteBuffer.allocate(256)), "has been closed");
  }

  @Test
  void reportsAFileThatBecameShorter() throws IOException {
    Golden.copy("encoder", folder);
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      Path weights = folder.resolve("model.safetensors");
      byte[] bytes = Files.readAllBytes(weights);
      Files.write(weights, Arrays.copyOf(bytes, bytes.length / 2));
      StoredTensor last = checkpoint.tensors().get("pooler.dense.weight");
      assertFails(
          Kind.IO,
          () -> checkpoint.read(last, ByteBuffer.allocateDirect(256)),
          weights.toString(),
          "changed since it was opened");
    }
  }

  @Test
  void refusesTensorsOfTwoGigabytes() throws IOException {
    Files.copy(Golden.path("encoder/config.json"), folder.resolve("config.json"));
    long bytes = 1L << 31;
    Path weights =
        Golden.safetensors(
            folder.resolve("model.safetensors"),
            "{\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":["
                + bytes / 4
                + ",1],\"data_offsets\":[0,"
                + bytes
                + "]}}",
            0);
    try (FileChannel channel = FileChannel.open(weights, StandardOpenOption.WRITE)) {
      // A hole: it takes no space.
      channel.write(ByteBuffer.allocate(1), channel.size() + bytes - 1);
    }
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      StoredTensor tensor = checkpoint.tensors().get("embeddings.word_embeddings.weight");
      assertUnsupported(
          () -> checkpoint.read(tensor, ByteBuffer.allocate(0)), "2147483648 bytes", "2 GB");
    }
  }
}
