package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.function.UnaryOperator;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

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
    changed(json -> json.replace("\"num_attention_heads\": 4", "\"num_attention_heads\": 5"));
    assertFails(
        Kind.INVALID_ARGUMENT,
        "is not a multiple of num_attention_heads 5",
        () -> Model.load(folder));
    changed(json -> json.replace("\"model_type\": \"bert\"", "\"model_type\": \"llama\""));
    assertFails(
        Kind.UNSUPPORTED, "model_type \"llama\" is not supported", () -> Model.load(folder));
    changed(json -> json.replace("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"mish\""));
    assertFails(Kind.UNSUPPORTED, "hidden_act \"mish\"", () -> Model.load(folder));
    changed(json -> json.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": \"three\""));
    assertFails(Kind.INVALID_ARGUMENT, "num_hidden_layers", () -> Model.load(folder));
    changed(json -> json.replace("\"absolute\"", "\"relative_key\""));
    assertFails(Kind.INVALID_ARGUMENT, "position_embedding_type", () -> Model.load(folder));
    changed(
        json ->
            json.replace(
                "\"vocab_size\": 61", "\"pruned_heads\": {\"0\": [1]}, \"vocab_size\": 61"));
    assertFails(
        Kind.INVALID_ARGUMENT, "shape [32, 32], expected [24, 32]", () -> Model.load(folder));
    changed(
        json ->
            json.replace(
                "\"vocab_size\": 61", "\"pruned_heads\": {\"7\": [1]}, \"vocab_size\": 61"));
    assertFails(Kind.INVALID_ARGUMENT, "layer 7 does not exist", () -> Model.load(folder));
    changed(UnaryOperator.identity());
    Model.load(folder).close();
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
      assertFails(
          Kind.INVALID_ARGUMENT,
          "2 labels for 1 examples",
          () -> Batch.of(new int[] {1}).withLabels(0, 1));
      assertFails(
          Kind.INVALID_ARGUMENT,
          "not finite".substring(4),
          () -> model.run(Batch.of(new int[] {1}).withTargets(Float.NaN), Capture.LOSS));
      assertFails(
          Kind.INVALID_ARGUMENT, "capture \"hidden\" is unknown", () -> Capture.parse("hidden"));
      assertEquals(Capture.HIDDEN_STATES, Capture.parse("Hidden_States"));
      assertEquals(3, logits(model).length, "the model works on");
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
