package org.bertology4j.checkpoint;

import static org.bertology4j.checkpoint.Golden.assertInvalid;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.bertology4j.Activations;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.Heads;
import org.bertology4j.Model;
import org.bertology4j.ModelConfig;
import org.bertology4j.ModelOptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class RandomCheckpointTest {
  private static final String WORDS = "embeddings.word_embeddings.weight";
  private static final String QUERY = "encoder.layer.1.attention.self.query.weight";

  @TempDir Path folder;

  private static JsonObject json() {
    return JsonParser.parseString(
            """
            {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "num_labels": 3,
             "intermediate_size": 96, "vocab_size": 101, "max_position_embeddings": 20,
             "type_vocab_size": 2, "initializer_range": 0.1, "pad_token_id": 5}
            """)
        .getAsJsonObject();
  }

  private static Checkpoint random(JsonObject json, long seed) {
    return Checkpoint.random(ModelConfig.fromJson(json, "test"), seed);
  }

  @Test
  void theSeedDecides() {
    try (Checkpoint one = random(json(), 1);
        Checkpoint again = random(json(), 1);
        Checkpoint other = random(json(), 2)) {
      assertEquals(one.tensors(), again.tensors());
      for (String name : one.tensors().keySet()) {
        float[] values = Golden.values(one, name);
        assertArrayEquals(values, Golden.values(again, name), name);
        boolean constant = name.endsWith("bias") || name.contains("LayerNorm");
        assertEquals(constant, Arrays.equals(values, Golden.values(other, name)), name);
      }
      float[] query = Golden.values(one, QUERY);
      float[] key = Golden.values(one, QUERY.replace("query", "key"));
      assertFalse(Arrays.equals(query, key), "each tensor has values of its own");
      assertEquals(1796475270, Arrays.hashCode(query), "the same on every JDK");
    }
  }

  /** Hugging Face's test_initialization, and the values of its _init_weights. */
  @Test
  void valuesAreThoseThatHuggingFaceStartsWith() {
    try (Checkpoint checkpoint = random(json(), 7)) {
      for (String name : checkpoint.tensors().keySet()) {
        float[] values = Golden.values(checkpoint, name);
        if (name.endsWith("bias")) {
          assertArrayEquals(new float[values.length], values, name);
          continue;
        }
        if (name.contains("LayerNorm")) {
          for (float value : values) {
            assertEquals(1, value, name);
          }
          continue;
        }
        double sum = 0;
        double squares = 0;
        for (float value : values) {
          sum += value;
          squares += value * value;
        }
        // Five standard errors of the mean, and of the variance.
        double n = values.length;
        assertEquals(0, sum / n, 5 * 0.1 / Math.sqrt(n), name);
        assertEquals(0.01, squares / n, 5 * 0.01 * Math.sqrt(2 / n) + 0.01 * 64 / n, name);
      }
      float[] words = Golden.values(checkpoint, WORDS);
      assertArrayEquals(new float[64], Arrays.copyOfRange(words, 5 * 64, 6 * 64), "padding");
      assertTrue(words[4 * 64 + 63] != 0 && words[6 * 64] != 0);
    }
    JsonObject unpadded = json();
    unpadded.add("pad_token_id", JsonNull.INSTANCE);
    unpadded.remove("initializer_range");
    try (Checkpoint checkpoint = random(unpadded, 7)) {
      float[] words = Golden.values(checkpoint, WORDS);
      assertTrue(words[5 * 64] != 0);
      double most = 0;
      for (float value : words) {
        most = Math.max(most, Math.abs(value));
      }
      assertEquals(0.08, most, 0.03, "about four times the usual deviation of 0.02");
    }
  }

  /** It has what every kind of checkpoint has, under the same names, in the same shapes. */
  @ParameterizedTest
  @ValueSource(strings = {"encoder", "sequence-classification", "masked-lm"})
  void namesAndShapesAreHuggingFaces(String name) {
    try (Checkpoint real = Checkpoint.open(Golden.path(name));
        Checkpoint random = Checkpoint.random(real.config(), 3)) {
      real.tensors()
          .forEach(
              (tensor, stored) -> {
                assertEquals(stored.shape(), random.tensors().get(tensor).shape(), tensor);
                assertEquals(StoredType.FLOAT32, random.tensors().get(tensor).type());
              });
      for (String tensor : random.tensors().keySet()) {
        assertTrue(ParameterNames.isKnown(tensor), tensor);
      }
    }
  }

  @Test
  void runsIsPrunedAndSaved() {
    Batch batch = Batch.of(new int[] {1, 100, 3}, new int[] {5});
    try (Model model = Model.load(random(json(), 1), ModelOptions.defaults())) {
      assertTrue(model.hasClassifier() && model.hasMaskedLm());
      model.pruneHeads(Heads.parse("0:1,2,3;1:0"));
      model.save(folder);
      try (Model saved = Model.load(folder);
          Activations expected = model.run(batch, Capture.LOGITS, Capture.TOKEN_LOGITS);
          Activations actual = saved.run(batch, Capture.LOGITS, Capture.TOKEN_LOGITS)) {
        assertArrayEquals(new long[] {2, 3}, expected.logits().shape());
        assertArrayEquals(expected.logits().toArray(), actual.logits().toArray());
        assertArrayEquals(new long[] {3, 101}, expected.tokenLogits(0).shape());
        assertArrayEquals(expected.tokenLogits(0).toArray(), actual.tokenLogits(0).toArray());
        assertTrue(Float.isFinite(expected.logits().get(1, 2)));
        assertEquals(Heads.parse("0:1,2,3;1:0"), saved.prunedHeads());
      }
    }
  }

  @Test
  void isNoFileAndSaysSo() {
    try (Checkpoint checkpoint = random(json(), 42)) {
      assertEquals(Optional.empty(), checkpoint.folder());
      assertEquals("random model 42", checkpoint.source().toString());
      StoredTensor words = checkpoint.tensors().get(WORDS);
      assertInvalid(
          () -> checkpoint.read(words, ByteBuffer.allocate(10)), WORDS, "25856 bytes", "10");
      StoredTensor foreign = new StoredTensor("x", StoredType.FLOAT32, List.of(1L), false);
      assertInvalid(
          () -> checkpoint.read(foreign, ByteBuffer.allocate(4)), "random model 42", "no tensor x");
    }
    JsonObject pruned = json();
    pruned.add("pruned_heads", JsonParser.parseString("{\"0\": [1]}"));
    assertInvalid(() -> random(pruned, 1), "starts with all its heads");
  }
}
