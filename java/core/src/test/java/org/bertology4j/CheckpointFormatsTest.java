package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Models from files of every format, from loading to the numbers that transformers computes. */
class CheckpointFormatsTest {
  @TempDir Path temporary;

  /** Files, and the folder of the golden numbers of the same weights. */
  @ParameterizedTest
  @CsvSource({
    "encoder, encoder",
    "encoder/model.safetensors, encoder",
    "sharded, encoder",
    "old-names, encoder",
    "onnx/script-encoder.onnx, encoder",
    "float16, float16",
    "onnx-external, float16",
    "bfloat16, bfloat16",
    "sequence-classification, sequence-classification",
    "onnx/script-sequence-classification.onnx, sequence-classification",
    "onnx/dynamo-sequence-classification.onnx, sequence-classification",
    "tensorflow-classifier, sequence-classification",
    "masked-lm, masked-lm",
    "onnx/script-masked-lm.onnx, masked-lm",
    "onnx/dynamo-masked-lm.onnx, masked-lm",
    "tensorflow, tensorflow",
    "tensorflow-hub, tensorflow"
  })
  void everyFormatGivesTheNumbersOfTheReference(String files, String expected) {
    try (Golden golden = new Golden(Golden.checkpoint(expected));
        Model model = Model.load(Golden.checkpoint(files))) {
      assertParity(golden, model);
      Path saved = temporary.resolve("saved");
      model.save(saved);
      try (Model again = Model.load(saved)) {
        assertEquals(model.config().task(), again.config().task());
        assertParity(golden, again);
      }
    }
  }

  private static void assertParity(Golden golden, Model model) {
    Batch batch = golden.batch(model.config());
    try (Activations run = model.run(batch, golden.captures())) {
      for (int b = 0; b < batch.examples(); b++) {
        new Parity(golden).assertSame(run, b, b);
      }
    }
  }

  /** Matrices that are stored [in, out], half floats and shards are cut and saved as all others. */
  @ParameterizedTest
  @ValueSource(
      strings = {
        "sharded",
        "old-names",
        "onnx/script-encoder.onnx",
        "onnx-external",
        "onnx/dynamo-sequence-classification.onnx",
        "tensorflow-classifier",
        "onnx/dynamo-masked-lm.onnx",
        "tensorflow"
      })
  void everyFormatIsPrunedAndSaved(String files) {
    Batch batch = Batch.of(new int[] {3, 0, 23, 7, 7}, new int[] {5});
    try (Model model = Model.load(Golden.checkpoint(files))) {
      Capture capture =
          switch (model.config().task()) {
            case ENCODER -> Capture.POOLER_OUTPUT;
            case SEQUENCE_CLASSIFICATION -> Capture.LOGITS;
            case MASKED_LM, CAUSAL_LM -> Capture.TOKEN_LOGITS;
          };
      model.maskHeads(HeadMask.without(Heads.parse("0:0,3"), model.config()));
      float[] masked = run(model, batch, capture);
      model.pruneHeads(Heads.parse("0:0,3"));
      float[] pruned = run(model, batch, capture);
      assertArrayEquals(masked, pruned, 3e-6f);
      for (Model.SaveFormat format : Model.SaveFormat.values()) {
        Path saved = temporary.resolve(format.name());
        model.save(saved, format);
        try (Model again = Model.load(saved)) {
          boolean full = format == Model.SaveFormat.FULL_SHAPE;
          assertEquals(full ? Heads.none() : model.prunedHeads(), again.prunedHeads());
          assertArrayEquals(pruned, run(again, batch, capture), full ? 3e-6f : 0f);
        }
      }
      model.restoreHeads();
      try (Model fresh = Model.load(Golden.checkpoint(files))) {
        assertArrayEquals(run(fresh, batch, capture), run(model, batch, capture));
      }
    }
  }

  /** The same bytes of weights give the same bits of results, whatever file they are in. */
  @Test
  void formatsOfTheSameWeightsAgreeBitForBit() {
    assertSameBits(
        Capture.POOLER_OUTPUT, "encoder", "sharded", "old-names", "onnx/script-encoder.onnx");
    assertSameBits(
        Capture.LOGITS,
        "sequence-classification",
        "onnx/script-sequence-classification.onnx",
        "onnx/dynamo-sequence-classification.onnx",
        "tensorflow-classifier");
    assertSameBits(
        Capture.TOKEN_LOGITS,
        "masked-lm",
        "onnx/script-masked-lm.onnx",
        "onnx/dynamo-masked-lm.onnx");
    assertSameBits(Capture.TOKEN_LOGITS, "tensorflow", "tensorflow-hub");
  }

  private static void assertSameBits(Capture capture, String first, String... others) {
    float[] expected = run(first, capture);
    Stream.of(others).forEach(name -> assertArrayEquals(expected, run(name, capture), name));
  }

  private static float[] run(String name, Capture capture) {
    try (Model model = Model.load(Golden.checkpoint(name))) {
      return run(model, Batch.of(new int[] {3, 0, 23, 7, 7}), capture);
    }
  }

  /** What an example gives, and the others behind it. */
  private static float[] run(Model model, Batch batch, Capture capture) {
    try (Activations run = model.run(batch, capture)) {
      FloatBuffer all = FloatBuffer.allocate(10_000);
      for (int b = 0; b < batch.examples(); b++) {
        all.put(run.get(capture, 0, b).toArray());
      }
      return Arrays.copyOf(all.array(), all.position());
    }
  }
}
