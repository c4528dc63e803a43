package org.bertology4j.checkpoint;

import static org.bertology4j.checkpoint.Golden.assertInvalid;
import static org.bertology4j.checkpoint.Golden.assertSameWeights;
import static org.bertology4j.checkpoint.Golden.assertUnsupported;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.bertology4j.ModelConfig;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class TensorFlowCheckpointTest {
  private static final String DATA = "bert_model.ckpt.data-00000-of-00001";

  @TempDir Path folder;

  @ParameterizedTest
  @ValueSource(
      strings = {
        "tensorflow",
        "tensorflow/bert_model.ckpt",
        "tensorflow/bert_model.ckpt.index",
      })
  void readsGooglesBundle(String path) {
    try (Checkpoint expected = Checkpoint.open(Golden.path("masked-lm"));
        Checkpoint actual = Checkpoint.open(path(path))) {
      assertSameWeights(
          expected, actual, 0, "cls.seq_relationship.weight", "cls.seq_relationship.bias");
      assertEquals(List.of(2L, 8L), actual.tensors().get("cls.seq_relationship.weight").shape());
      assertEquals(ModelConfig.Task.MASKED_LM, actual.config().task());
      assertEquals(ModelConfig.HiddenAct.GELU_NEW, actual.config().hiddenAct());
      assertEquals(4, actual.config().numAttentionHeads());
      assertEquals(1e-12f, actual.config().layerNormEps());
    }
  }

  /** A bundle's prefix is no file. */
  private static Path path(String name) {
    int slash = name.indexOf('/');
    return slash < 0
        ? Golden.path(name)
        : Golden.path(name.substring(0, slash)).resolve(name.substring(slash + 1));
  }

  @ParameterizedTest
  @ValueSource(strings = {"tensorflow-hub", "tensorflow-hub/variables/variables"})
  void readsTheBundleOfASavedModel(String path) {
    try (Checkpoint expected = Checkpoint.open(Golden.path("masked-lm"));
        Checkpoint actual = Checkpoint.open(path(path))) {
      assertSameWeights(expected, actual, 0);
      assertEquals(ModelConfig.Task.MASKED_LM, actual.config().task());
    }
  }

  @Test
  void readsAFineTunedClassifier() {
    try (Checkpoint expected = Checkpoint.open(Golden.path("sequence-classification"));
        Checkpoint actual = Checkpoint.open(Golden.path("tensorflow-classifier"))) {
      assertSameWeights(expected, actual, 0);
      assertTrue(actual.tensors().get("pooler.dense.weight").transposed());
      assertEquals(ModelConfig.Task.SEQUENCE_CLASSIFICATION, actual.config().task());
      assertEquals(expected.config().labels(), actual.config().labels());
    }
  }

  @Test
  void keepsWhatTheConfigurationSays() throws IOException {
    Golden.copy("tensorflow-classifier", folder);
    Path config = folder.resolve("bert_config.json");
    String labels =
        "{\"architectures\": [\"BertForSequenceClassification\"], \"id2label\": "
            + "{\"0\": \"a\", \"1\": \"b\", \"2\": \"c\", \"3\": \"d\", \"4\": \"e\"},";
    Files.writeString(config, labels + Files.readString(config).strip().substring(1));
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      assertEquals(List.of("a", "b", "c", "d", "e"), checkpoint.config().labels());
    }
  }

  @Test
  void wantsTheConfiguration() throws IOException {
    Golden.copy("tensorflow-hub", folder);
    Files.delete(folder.resolve("bert_config.json"));
    assertInvalid(
        () -> Golden.open(folder),
        "number of attention heads is not in the weights",
        folder.resolve("variables/bert_config.json").toString(),
        folder.resolve("config.json").toString());
  }

  @Test
  void namesDataThatAreMissingOrShort() throws IOException {
    Golden.copy("tensorflow", folder);
    Path data = folder.resolve(DATA);
    byte[] bytes = Files.readAllBytes(data);
    Files.write(data, Arrays.copyOf(bytes, bytes.length / 2));
    assertInvalid(() -> Golden.open(folder), data.toString(), "truncated");
    Files.delete(data);
    assertInvalid(() -> Golden.open(folder), DATA, "missing");
  }

  @Test
  void checksTheSumOfATensorThatIsRead() throws IOException {
    Golden.copy("tensorflow", folder);
    Path data = folder.resolve(DATA);
    byte[] bytes = Files.readAllBytes(data);
    for (int i = 0; i < bytes.length; i++) {
      bytes[i] ^= 1;
    }
    Files.write(data, bytes);
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      for (String name : checkpoint.tensors().keySet()) {
        assertInvalid(() -> Golden.values(checkpoint, name), data.toString(), "CRC-32C");
      }
    }
  }

  @Test
  void checksTheSumsOfTheIndex() throws IOException {
    Golden.copy("tensorflow", folder);
    Path index = folder.resolve("bert_model.ckpt.index");
    byte[] bytes = Files.readAllBytes(index);
    bytes[100]++;
    Files.write(index, bytes);
    assertInvalid(() -> Golden.open(folder), index.toString(), "CRC-32C", "damaged");
    bytes[bytes.length - 1]++;
    Files.write(index, bytes);
    assertInvalid(() -> Golden.open(folder), "expected db4775248b80fb57");
    Files.write(index, new byte[20]);
    assertInvalid(() -> Golden.open(folder), "20 bytes");
  }

  @Test
  void refusesCompressedTables() throws IOException {
    Golden.copy("tensorflow", folder);
    Path index = folder.resolve("bert_model.ckpt.index");
    Files.write(index, TableBytes.of(Map.of("", new byte[0]), 1));
    assertUnsupported(() -> Golden.open(folder), index.toString(), "snappy");
  }

  @Test
  void readsTablesOfOtherBundles() throws IOException {
    Golden.copy("tensorflow", folder);
    Path index = folder.resolve("bert_model.ckpt.index");
    Map<String, byte[]> entries = new LinkedHashMap<>(entries(index));
    Files.write(index, TableBytes.of(entries, 0));
    Golden.open(folder);

    assertRefused(entries, "", header(1, 1), true, "big-endian");
    assertRefused(entries, "", header(0, 0), false, "0 files of data");
    assertRefused(
        entries, "_CHECKPOINTABLE_OBJECT_GRAPH", new byte[0], true, "TensorFlow 2's objects");

    ProtoBytes kernel = new ProtoBytes().number(1, 1).number(5, 64 * 4);
    kernel.message(2, shape(8, 8));
    String name = "bert/encoder/layer_0/attention/self/query/kernel";
    assertRefused(entries, name, kernel.message(7, shape(1)).toBytes(), true, "is partitioned");
    assertRefused(entries, name, variable(1, 3, 256, 8, 8), false, "file 3 of data");
    assertRefused(entries, name, variable(1, 0, 100, 8, 8), false, "100 bytes, expected 256");
    assertRefused(entries, name, variable(1, 0, 256, 8, 2, 4), true, "[8, 2, 4]");
    assertRefused(entries, name, variable(2, 0, 512, 8, 8), true, "DOUBLE");
    assertRefused(entries, name, variable(1, 0, 256, 8, -8), false, "a number that fits");
  }

  private void assertRefused(
      Map<String, byte[]> entries, String name, byte[] value, boolean unsupported, String part)
      throws IOException {
    Path index = folder.resolve("bert_model.ckpt.index");
    Map<String, byte[]> changed = new TreeMap<>(entries);
    changed.put(name, value);
    Files.write(index, TableBytes.of(changed, 0));
    if (unsupported) {
      assertUnsupported(() -> Golden.open(folder), index.toString(), part);
    } else {
      assertInvalid(() -> Golden.open(folder), index.toString(), part);
    }
  }

  private static Map<String, byte[]> entries(Path index) {
    try (DataFile file = DataFile.open(index)) {
      return SortedTable.read(file);
    }
  }

  private static byte[] header(int shards, int endianness) {
    return new ProtoBytes().number(1, shards).number(2, endianness).toBytes();
  }

  private static byte[] variable(int type, int shard, long bytes, long... sizes) {
    return new ProtoBytes()
        .number(1, type)
        .message(2, shape(sizes))
        .number(3, shard)
        .number(5, bytes)
        .toBytes();
  }

  private static ProtoBytes shape(long... sizes) {
    ProtoBytes shape = new ProtoBytes();
    for (long size : sizes) {
      shape.message(2, new ProtoBytes().number(1, size));
    }
    return shape;
  }

  @Test
  void readsHalfPrecision() throws IOException {
    Golden.copy("tensorflow", folder);
    Path index = folder.resolve("bert_model.ckpt.index");
    Map<String, byte[]> entries = new TreeMap<>(entries(index));
    entries.put("bert/pooler/dense/bias", variable(19, 0, 16, 8));
    entries.put("bert/pooler/dense/kernel", variable(14, 0, 128, 8, 8));
    Files.write(index, TableBytes.of(entries, 0));
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      StoredTensor bias = checkpoint.tensors().get("pooler.dense.bias");
      assertEquals(StoredType.FLOAT16, bias.type());
      assertEquals(StoredType.BFLOAT16, checkpoint.tensors().get("pooler.dense.weight").type());
      assertInvalid(() -> checkpoint.read(bias, ByteBuffer.allocate(16)), "CRC-32C");
    }
  }
}
