package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.function.UnaryOperator;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * What loading and running say to bad input; the file formats' own errors are tested beside their
 * readers.
 */
class LoadingTest {
  @TempDir Path temporary;

  private Path changed(UnaryOperator<String> config) throws IOException {
    Path folder = Files.createDirectories(temporary.resolve("changed"));
    Path golden = Golden.folder("classification");
    Files.writeString(
        folder.resolve("config.json"),
        config.apply(Files.readString(golden.resolve("config.json"))));
    Path weights = folder.resolve("model.safetensors");
    Files.deleteIfExists(weights);
    Files.copy(golden.resolve("model.safetensors"), weights);
    return folder;
  }

  private static void assertFails(
      Kind kind, String text, org.junit.jupiter.api.function.Executable call) {
    BertologyException e = assertThrows(BertologyException.class, call);
    assertEquals(kind, e.kind(), e.getMessage());
    assertTrue(e.getMessage().contains(text), e.getMessage());
  }

  @Test
  void shapesAgainstTheConfiguration() throws IOException {
    Path folder = changed(json -> json.replace("\"hidden_size\": 32", "\"hidden_size\": 36"));
    assertFails(
        Kind.INVALID_ARGUMENT, "shape [61, 32], expected [61, 36]", () -> Model.load(folder));
    changed(json -> json.replace("\"vocab_size\": 61", "\"vocab_size\": 60"));
    assertFails(
        Kind.INVALID_ARGUMENT, "shape [61, 32], expected [60, 32]", () -> Model.load(folder));
    changed(json -> json.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"));
    assertFails(Kind.INVALID_ARGUMENT, "has no tensor encoder.layer.3.", () -> Model.load(folder));
    changed(
        json ->
            json.replace(
                "\"vocab_size\": 61", "\"pruned_heads\": {\"0\": [1]}, \"vocab_size\": 61"));
    assertFails(
        Kind.INVALID_ARGUMENT, "shape [32, 32], expected [24, 32]", () -> Model.load(folder));
    changed(UnaryOperator.identity());
    Model.load(folder).close();
  }

  /** Entries of config.json, each instead of the one of this name, and what is said about it. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "\"model_type\": \"llama\" | UNSUPPORTED | model_type \"llama\" is not supported; bert",
        "\"model_type\": [] | INVALID_ARGUMENT | not of the type that it should be",
        "\"hidden_act\": \"mish\" | UNSUPPORTED | hidden_act \"mish\" is not supported",
        "\"is_decoder\": true | UNSUPPORTED | is_decoder \"true\" is not supported; expected false",
        "\"add_cross_attention\": true | UNSUPPORTED | add_cross_attention \"true\" is not supported",
        "\"position_embedding_type\": \"relative_key\" | UNSUPPORTED"
            + " | position_embedding_type \"relative_key\" is not supported; expected absolute",
        "\"problem_type\": \"multi_label_classification\" | UNSUPPORTED"
            + " | problem_type \"multi_label_classification\" is not supported; expected regression",
        "\"num_attention_heads\": 5 | INVALID_ARGUMENT"
            + " | hidden_size 32 is not a multiple of num_attention_heads 5",
        "\"num_attention_heads\": 0 | INVALID_ARGUMENT"
            + " | num_attention_heads is 0.0, expected a positive whole number",
        "\"num_hidden_layers\": \"three\" | INVALID_ARGUMENT"
            + " | num_hidden_layers is \"three\", expected a number",
        "\"num_hidden_layers\": 2.5 | INVALID_ARGUMENT | num_hidden_layers is 2.5",
        "\"num_hidden_layers\": null | INVALID_ARGUMENT | has no num_hidden_layers",
        "\"num_hidden_layers\": 2147483647 | INVALID_ARGUMENT"
            + " | 2147483647 layers of 4 heads, expected at most 4096 of 4096",
        "\"vocab_size\": 2147483647 | INVALID_ARGUMENT | vocab_size is 2147483647, expected 1 to",
        "\"layer_norm_eps\": -1 | INVALID_ARGUMENT | layer_norm_eps is -1",
        "\"layer_norm_eps\": 1e300 | INVALID_ARGUMENT | layer_norm_eps is inf",
        "\"tie_word_embeddings\": \"no\" | INVALID_ARGUMENT"
            + " | tie_word_embeddings is \"no\", expected true or false",
        "\"id2label\": {\"0\": \"a\", \"2\": \"b\"} | INVALID_ARGUMENT"
            + " | id2label has the ids [0, 2], expected 0 to 1",
        "\"id2label\": {\"zero\": \"a\"} | INVALID_ARGUMENT"
            + " | id2label has \"zero\", expected a whole number",
        "\"id2label\": {\"0\": \"a\"} | INVALID_ARGUMENT"
            + " | classifier.weight: parameter classifier.weight: shape [3, 32], expected [1, 32]",
        "\"pruned_heads\": {\"7\": [1]} | INVALID_ARGUMENT"
            + " | pruned_heads: layer 7 does not exist: the model has layers 0 to 2",
        "\"pruned_heads\": {\"0\": [4]} | INVALID_ARGUMENT"
            + " | pruned_heads: head 4 of layer 0 does not exist: the model has heads 0 to 3",
        "\"pruned_heads\": {\"-1\": [0]} | INVALID_ARGUMENT"
            + " | pruned_heads: head 0 of layer -1: numbers count from 0",
        "\"pruned_heads\": {\"0\": [1, 1]} | INVALID_ARGUMENT"
            + " | pruned_heads: head 1 of layer 0 is named twice",
        "\"pruned_heads\": {\"0\": [1.5]} | INVALID_ARGUMENT | pruned_heads has \"1.5\"",
        "\"pruned_heads\": {\"0\": [4294967297]} | INVALID_ARGUMENT"
            + " | pruned_heads has \"4294967297\", expected a whole number",
        "\"pruned_heads\": [0] | INVALID_ARGUMENT | not of the type that it should be",
        "\"architectures\": \"BertModel\" | INVALID_ARGUMENT | not of the type that it should be"
      })
  void entriesOfTheConfiguration(String entry, Kind kind, String text) throws IOException {
    String name = entry.substring(1, entry.indexOf("\":"));
    Path folder =
        changed(
            json -> {
              JsonObject object = JsonParser.parseString(json).getAsJsonObject();
              object.remove(name);
              return object.toString().replaceFirst("\\{", "{" + entry + ",");
            });
    assertFails(kind, text, () -> Model.load(folder));
    assertFails(kind, folder.toString(), () -> Model.load(folder));
  }

  @Test
  void weightsThatAreNotNumbers() throws IOException {
    Path folder = changed(UnaryOperator.identity());
    Path weights = folder.resolve("model.safetensors");
    byte[] bytes = Files.readAllBytes(weights);
    // The last float of the file becomes a NaN.
    bytes[bytes.length - 1] = 0x7f;
    bytes[bytes.length - 2] = (byte) 0xc0;
    Files.write(weights, bytes);
    assertFails(
        Kind.INVALID_ARGUMENT, "is nan, expected a finite number", () -> Model.load(folder));
  }

  /** The last two bytes of a file of half-precision weights, little-endian. */
  @ParameterizedTest
  @CsvSource({
    "float16, 0x00, 0x7c, is inf",
    "float16, 0x00, 0xfc, is -inf",
    "float16, 0x01, 0x7e, is nan",
    "bfloat16, 0x80, 0x7f, is inf",
    "bfloat16, 0xc0, 0x7f, is nan"
  })
  void halfPrecisionWeightsThatAreNotNumbers(String name, String low, String high, String text)
      throws IOException {
    Path folder = Golden.checkpoint(name);
    byte[] bytes = Files.readAllBytes(folder.resolve("model.safetensors"));
    bytes[bytes.length - 2] = Integer.decode(low).byteValue();
    bytes[bytes.length - 1] = Integer.decode(high).byteValue();
    Files.copy(folder.resolve("config.json"), temporary.resolve("config.json"));
    Files.write(temporary.resolve("model.safetensors"), bytes);
    assertFails(
        Kind.INVALID_ARGUMENT, text + ", expected a finite number", () -> Model.load(temporary));
  }

  @Test
  void filesThatShrinkWhileTheyAreOpen() throws IOException {
    Path folder = changed(UnaryOperator.identity());
    try (Model model = Model.load(folder)) {
      model.pruneHeads(Heads.parse("0:1;2:3"));
      float[] before = logits(model);
      try (FileChannel file =
          FileChannel.open(folder.resolve("model.safetensors"), StandardOpenOption.WRITE)) {
        file.truncate(2000);
      }
      assertFails(Kind.IO, "model.safetensors", model::restoreHeads);
      assertFails(Kind.IO, "model.safetensors", () -> model.save(temporary.resolve("copy")));
      assertFalse(Files.exists(temporary.resolve("copy")));
      assertEquals(Heads.parse("0:1;2:3"), model.prunedHeads());
      assertArrayEquals(before, logits(model));
    }
  }

  private static float[] logits(Model model) {
    try (Activations run = model.run(Batch.of(new int[] {1, 2, 3}), Capture.LOGITS)) {
      return run.logits().toArray();
    }
  }

  @Test
  void whatAModelLacksIsSaidWhenItIsNeeded() {
    try (Model encoder = Model.load(Golden.folder("encoder"))) {
      assertFalse(encoder.hasClassifier());
      assertFalse(encoder.hasMaskedLm());
      Batch batch = Batch.of(new int[] {1, 2, 3});
      encoder.run(batch, Capture.HIDDEN_STATES, Capture.POOLER_OUTPUT).close();
      assertFails(Kind.UNSUPPORTED, "classifier.weight", () -> encoder.run(batch, Capture.LOGITS));
      assertFails(
          Kind.UNSUPPORTED, "masked_lm.transform", () -> encoder.run(batch, Capture.TOKEN_LOGITS));
    }
    try (Model masked = Model.load(Golden.folder("masked_lm"))) {
      assertTrue(masked.hasMaskedLm());
      Batch batch = Batch.of(new int[] {1, 2, 3});
      assertFails(Kind.UNSUPPORTED, "pooler.weight", () -> masked.run(batch, Capture.LOGITS));
    }
  }

  @Test
  void batchesThatAreWrong() {
    try (Model model = Model.load(Golden.folder("classification"))) {
      assertFails(
          Kind.INVALID_ARGUMENT,
          "input_ids[2] is 61, expected 0 to 60",
          () -> model.run(Batch.of(new int[] {1, 2, 61}), Capture.LOGITS));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "input_ids[0] is -1",
          () -> model.run(Batch.of(new int[] {-1}), Capture.LOGITS));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "example 1 has 25 tokens, the model has 24 positions",
          () -> model.run(Batch.of(new int[] {1}, new int[25]), Capture.LOGITS));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "token_type_ids[1] is 2",
          () ->
              model.run(
                  Batch.builder().add(new int[] {1, 2}, new int[] {0, 2}).build(), Capture.LOGITS));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "label of example 0 is 3",
          () -> model.run(Batch.of(new int[] {1}).withLabels(3), Capture.LOSS));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "need labels",
          () -> model.run(Batch.of(new int[] {1}), Capture.HEAD_GRADIENTS));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "1 output, the model has 3",
          () -> model.run(Batch.of(new int[] {1}).withTargets(3f), Capture.LOSS));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "layer 3 does not exist",
          () -> model.run(Batch.of(new int[] {1}), Capture.ATTENTIONS.layers(0, 3)));
      assertFails(Kind.INVALID_ARGUMENT, "has no layers", () -> Capture.LOGITS.layers(0));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "example 1 has no tokens",
          () -> Batch.of(new int[] {1}, new int[0]));
      assertFails(Kind.INVALID_ARGUMENT, "at least one example", Batch::of);
      int[][] two = {{5, 6}, {7, 8}};
      assertFails(
          Kind.INVALID_ARGUMENT,
          "attention masks of 1 sequences for 2 examples",
          () -> Batch.ofPadded(two, new int[][] {{1, 1}}));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "example 1 has 2 input ids, 2 token type ids and an attention mask of 1",
          () -> Batch.ofPadded(two, new int[][] {{1, 1}, {1}}));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "example 1 has no tokens",
          () -> Batch.ofPadded(two, new int[][] {{1, 1}, {0, 0}}));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "example 0 has the attention mask [1, 0, 1], expected ones with zeros only around them",
          () -> Batch.ofPadded(new int[][] {{1, 2, 3}}, new int[][] {{1, 0, 1}}));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "attention mask [0, 2]",
          () -> Batch.ofPadded(new int[][] {{1, 2}}, new int[][] {{0, 2}}));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "2 labels for 1 examples",
          () -> Batch.of(new int[] {1}).withLabels(0, 1));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "target of example 0 is nan, expected a finite number",
          () -> model.run(Batch.of(new int[] {1}).withTargets(Float.NaN), Capture.LOSS));
      assertFails(
          Kind.INVALID_ARGUMENT, "capture \"hidden\" is unknown", () -> Capture.parse("hidden"));
      assertEquals(Capture.HIDDEN_STATES, Capture.parse("Hidden_States"));
      assertEquals(3, logits(model).length, "the model works on");
    }
  }

  @Test
  void labelsOfTokensThatAreWrong() {
    try (Model model = Model.load(Golden.folder("masked_lm"))) {
      Batch batch = Batch.of(new int[] {1, 2}, new int[] {3});
      assertFails(
          Kind.INVALID_ARGUMENT,
          "label of token 1 is 61, expected 0 to 60 or -100",
          () -> model.run(batch.withTokenLabels(new int[] {0, 61}, new int[] {1}), Capture.LOSS));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "example 1 has no token with a label",
          () -> model.run(batch.withTokenLabels(new int[] {0, 1}, new int[] {-100}), Capture.LOSS));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "example 1 has 2 token labels and 1 tokens",
          () -> batch.withTokenLabels(new int[] {0, 1}, new int[] {1, 2}));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "labels of 1 sequences for 2 examples",
          () -> batch.withTokenLabels(new int[] {0, 1}));
      assertFails(
          Kind.UNSUPPORTED,
          "lacks pooler.weight",
          () -> model.run(batch.withLabels(0, 1), Capture.LOSS));
    }
  }

  @Test
  void masksThatAreWrong() {
    try (Model model = Model.load(Golden.folder("pruned"))) {
      Batch batch = Batch.of(new int[] {1, 2});
      RunOptions options = RunOptions.capturing(Capture.LOGITS);
      HeadMask ones = HeadMask.ones(model.config());
      assertFails(
          Kind.INVALID_ARGUMENT,
          "head 1 of layer 0 is pruned: it cannot be masked",
          () -> model.run(batch, options.headMask(ones.with(0, 1, 0.5f))));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "a head mask of 2 layers of 4 heads for a model of 3 layers of 4 heads",
          () -> model.run(batch, options.headMask(HeadMask.ones(2, 4).with(0, 0, 0))));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "a head mask of 2 layers of 4 heads for a model of 3 layers of 4 heads",
          () -> model.maskHeads(HeadMask.ones(2, 4)));
      for (float value : new float[] {-0.1f, 1.1f, Float.NaN}) {
        assertFails(
            Kind.INVALID_ARGUMENT,
            "head 0 of layer 0 has " + value + ", expected 0 to 1",
            () -> ones.with(0, 0, value));
      }
      assertFails(Kind.INVALID_ARGUMENT, "head 4 of layer 0 is not in", () -> ones.with(0, 4, 1f));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "layer 3 does not exist: the model has layers 0 to 2",
          () -> HeadMask.without(Heads.parse("3:0"), model.config()));
      assertFails(Kind.INVALID_ARGUMENT, "layer 3 does not exist", () -> model.heads(3));
      assertEquals(3, logits(model).length);
    }
  }

  @Test
  void layersOfACapture() {
    try (Model model = Model.load(Golden.folder("classification"));
        Activations run =
            model.run(Batch.of(new int[] {1, 2, 3}), Capture.HIDDEN_STATES.layers(0, 2))) {
      assertEquals(96, run.hiddenState(0, 0).elements());
      assertEquals(96, run.hiddenState(2, 0).elements());
      assertFails(
          Kind.INVALID_ARGUMENT, "of layer 1 was not asked for", () -> run.hiddenState(1, 0));
    }
  }

  @Test
  void bfloat16IsCloseToFloat32() {
    try (Device device = Device.open("cpu")) {
      Path folder = Golden.folder("classification");
      if (!device.supports(DType.BFLOAT16)) {
        assertFails(
            Kind.UNSUPPORTED,
            "bfloat16",
            () -> Model.load(folder, ModelOptions.defaults().dtype(DType.BFLOAT16)));
        assumeTrue(false, "this processor has no bfloat16 instructions; refused as it should be");
      }
      try (Model exact = Model.load(folder);
          Model rounded = Model.load(folder, ModelOptions.defaults().dtype(DType.BFLOAT16))) {
        assertArrayEquals(logits(exact), logits(rounded), 0.05f);
        rounded.pruneHeads(Heads.parse("0:1"));
        rounded.save(temporary);
      }
      try (Model saved = Model.load(temporary);
          Model pruned = Model.load(folder)) {
        pruned.pruneHeads(Heads.parse("0:1"));
        assertArrayEquals(logits(pruned), logits(saved), "saving does not round");
      }
    }
  }
}
