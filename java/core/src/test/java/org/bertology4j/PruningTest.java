package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.bertology4j.checkpoint.SafetensorsFile;
import org.bertology4j.checkpoint.SafetensorsType;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Masking, pruning, restoring and saving; among them the analogue of every test of Hugging Face's
 * for these features. Of BERT here, and of the other models in the classes that extend this one.
 */
class PruningTest {
  private static final Capture[] ALL = {
    Capture.LOGITS, Capture.HIDDEN_STATES, Capture.ATTENTIONS, Capture.HEAD_GRADIENTS
  };

  @TempDir Path temporary;
  private Golden golden;
  private Model model;
  private Batch batch;

  /** A golden folder of 3 layers of 4 heads, a classifier. */
  String whole() {
    return "classification";
  }

  /** One of the same shape without the heads 0:1 and 2:0,2,3. */
  String pruned() {
    return "pruned";
  }

  @BeforeEach
  void load() {
    golden = new Golden(whole());
    model = Model.load(golden.folder);
    batch = golden.batch(model.config());
  }

  @AfterEach
  void close() {
    model.close();
    golden.close();
  }

  private float[] logits(Model of) {
    Capture output = of.hasClassifier() ? Capture.LOGITS : Capture.TOKEN_LOGITS;
    try (Activations run = of.run(batch, output)) {
      return run.get(output, 0, 0).toArray();
    }
  }

  private static void assertClose(float[] expected, float[] actual) {
    assertArrayEquals(expected, actual, 3e-6f);
  }

  /** Number of heads that each layer's attention maps have. */
  private int[] mapHeads(Model of) {
    try (Activations run = of.run(batch, Capture.ATTENTIONS)) {
      int[] heads = new int[of.config().numHiddenLayers()];
      for (int l = 0; l < heads.length; l++) {
        heads[l] = (int) run.attention(l, 0).size(0);
      }
      return heads;
    }
  }

  // Hugging Face's test_attention_outputs and test_hidden_states_output.
  @Test
  void shapesOfMapsAndStates() {
    try (Activations run = model.run(batch, ALL)) {
      for (int b = 0; b < batch.examples(); b++) {
        long n = batch.length(b);
        for (int l = 0; l < 3; l++) {
          assertArrayEquals(new long[] {4, n, n}, run.attention(l, b).shape());
        }
        for (int l = 0; l <= 3; l++) {
          assertArrayEquals(new long[] {n, 32}, run.hiddenState(l, b).shape());
        }
      }
    }
  }

  // test_model_outputs_equivalence: every way to a result leads to the same one.
  @Test
  void namedAndGeneralAccessAgree() {
    try (Activations run = model.run(batch, Golden.capturesOfAnyClassifier())) {
      for (int b = 0; b < batch.examples(); b++) {
        assertSame(run.logits(b), run, Capture.LOGITS, 0, b);
        assertSame(run.logits().slice(b), run, Capture.LOGITS, 0, b);
        assertSame(run.poolerOutput(b), run, Capture.POOLER_OUTPUT, 0, b);
        assertSame(run.headGradients().slice(b), run, Capture.HEAD_GRADIENTS, 0, b);
        assertSame(run.tokenHeadGradients().slice(b), run, Capture.TOKEN_HEAD_GRADIENTS, 0, b);
        for (int l = 0; l < 3; l++) {
          assertSame(run.hiddenState(l + 1, b), run, Capture.HIDDEN_STATES, l + 1, b);
          assertSame(run.attention(l, b), run, Capture.ATTENTIONS, l, b);
          assertSame(run.attentionEntropy(l, b), run, Capture.ATTENTION_ENTROPIES, l, b);
          assertSame(run.headOutput(l, b), run, Capture.HEAD_OUTPUTS, l, b);
          assertSame(run.headOutputGradient(l, b), run, Capture.HEAD_OUTPUT_GRADIENTS, l, b);
          assertSame(run.attentionGradient(l, b), run, Capture.ATTENTION_GRADIENTS, l, b);
          assertSame(run.hiddenStateGradient(l, b), run, Capture.HIDDEN_STATE_GRADIENTS, l, b);
        }
      }
    }
  }

  private static void assertSame(
      FloatTensor expected, Activations run, Capture capture, int layer, int example) {
    FloatTensor actual = run.get(capture, layer, example);
    assertArrayEquals(expected.shape(), actual.shape(), capture.toString());
    assertArrayEquals(expected.toArray(), actual.toArray(), capture.toString());
  }

  // test_determinism, and test_torchscript_*'s equality of a model that is loaded again.
  @Test
  void runsAgainAndModelsAgainGiveTheSameBits() {
    try (Model again = Model.load(golden.folder)) {
      for (Capture capture : ALL) {
        float[] first = all(model, capture);
        assertArrayEquals(first, all(model, capture), capture.toString());
        assertArrayEquals(first, all(again, capture), capture.toString());
      }
    }
  }

  private float[] all(Model of, Capture capture) {
    try (Activations run = of.run(batch, capture)) {
      return run.get(capture, capture.isLayered() ? 2 : 0, 2).toArray();
    }
  }

  // test_retain_grad_hidden_states_attentions: here every layer has gradients, and they are not
  // zero.
  @Test
  void statesAndMapsHaveGradients() {
    try (Activations run =
        model.run(batch, Capture.HIDDEN_STATE_GRADIENTS, Capture.ATTENTION_GRADIENTS)) {
      for (int l = 0; l < 3; l++) {
        assertTrue(largest(run.hiddenStateGradient(l, 0)) > 1e-4);
        assertTrue(largest(run.attentionGradient(l, 0)) > 1e-4);
      }
    }
  }

  private static float largest(FloatTensor tensor) {
    float most = 0;
    for (float value : tensor.toArray()) {
      most = Math.max(most, Math.abs(value));
    }
    return most;
  }

  // test_headmasking
  @Test
  void maskedHeadsHaveEmptyMapsAndTheMaskHasGradients() {
    HeadMask mask = HeadMask.without(Heads.parse("0:0;2:0,1,2"), model.config());
    RunOptions options =
        RunOptions.capturing(Capture.ATTENTIONS, Capture.HEAD_GRADIENTS)
            .headMask(mask)
            .maskedGradients();
    try (Activations run = model.run(batch, options)) {
      assertEquals(0, largest(run.attention(0, 0).slice(0)));
      assertNotEquals(0, largest(run.attention(0, 0).slice(3)));
      assertNotEquals(0, largest(run.attention(1, 0).slice(0)));
      assertEquals(0, largest(run.attention(2, 0).slice(2)));
      assertNotEquals(0, largest(run.attention(2, 0).slice(3)));
      for (float g : run.headGradients().toArray()) {
        assertTrue(Float.isFinite(g));
      }
      assertNotEquals(0, run.headGradients().get(0, 0, 0));
    }
  }

  // test_head_pruning
  @Test
  void pruningLeavesMapsOfTheOtherHeads() {
    model.pruneHeads(Heads.parse("0:1,2,3;2:0"));
    assertArrayEquals(new int[] {1, 4, 3}, mapHeads(model));
    assertEquals(List.of(0), model.heads(0));
    assertEquals(List.of(1, 2, 3), model.heads(2));
  }

  // test_head_pruning_save_load_from_pretrained
  @Test
  void savedAndReloadedTheModelIsTheSame() {
    model.pruneHeads(Heads.parse("0:1,2,3;2:0"));
    Path folder = temporary.resolve("saved");
    model.save(folder);
    try (Model reloaded = Model.load(folder)) {
      assertArrayEquals(new int[] {1, 4, 3}, mapHeads(reloaded));
      assertArrayEquals(logits(model), logits(reloaded));
      assertEquals(model.prunedHeads(), reloaded.prunedHeads());
      assertEquals(model.parameterCount(), reloaded.parameterCount());
    }
  }

  // test_head_pruning_save_load_from_config_init: the configuration alone decides which heads there
  // are.
  @Test
  void prunedConfigurationLoads() {
    try (Model smaller = Model.load(Golden.folder(pruned()))) {
      assertEquals(Heads.parse("0:1;2:0,2,3"), smaller.prunedHeads());
      assertArrayEquals(new int[] {3, 4, 1}, mapHeads(smaller));
    }
  }

  // test_head_pruning_integration
  @Test
  void pruningGoesOnAfterReloading() {
    model.pruneHeads(Heads.parse("1:1,2"));
    assertArrayEquals(new int[] {4, 2, 4}, mapHeads(model));
    Path folder = temporary.resolve("first");
    model.save(folder);
    try (Model reloaded = Model.load(folder)) {
      assertArrayEquals(new int[] {4, 2, 4}, mapHeads(reloaded));
      reloaded.pruneHeads(Heads.parse("0:0"));
      model.pruneHeads(Heads.parse("0:0"));
      assertArrayEquals(new int[] {3, 2, 4}, mapHeads(reloaded));
      assertEquals("0:0;1:1,2", reloaded.prunedHeads().toString());
      assertEquals(
          JsonParser.parseString("{\"0\":[0],\"1\":[1,2]}"),
          reloaded.config().toJson().get("pruned_heads"));
      assertArrayEquals(logits(model), logits(reloaded));
      BertologyException e =
          assertThrows(
              BertologyException.class, () -> reloaded.restoreHeads(Heads.parse("0:0;1:1")));
      assertTrue(e.getMessage().contains("before the checkpoint was saved"), e.getMessage());
      assertArrayEquals(new int[] {3, 2, 4}, mapHeads(reloaded), "nothing was restored");
      reloaded.restoreHeads();
      assertArrayEquals(new int[] {4, 2, 4}, mapHeads(reloaded));
    }
  }

  @Test
  void maskedEqualsPruned() {
    for (String plan :
        List.of("0:1", "0:0,3;1:2;2:1", "1:0,1,2,3", "0:0,1,2,3;1:0,1,2,3;2:0,1,2,3")) {
      Heads heads = Heads.parse(plan);
      model.maskHeads(HeadMask.without(heads, model.config()));
      float[] masked = logits(model);
      model.pruneHeads(heads);
      assertTrue(model.headMask().isOnes());
      assertClose(masked, logits(model));
      model.restoreHeads();
    }
  }

  @Test
  void restoringGivesTheSameBits() {
    float[] before = logits(model);
    long parameters = model.parameterCount();
    model.pruneHeads(Heads.parse("0:1,2;1:0,1,2,3;2:3"));
    assertTrue(model.parameterCount() < parameters);
    model.restoreHeads(Heads.parse("1:2"));
    assertEquals(Heads.parse("0:1,2;1:0,1,3;2:3"), model.prunedHeads());
    model.restoreHeads();
    assertArrayEquals(before, logits(model));
    assertEquals(parameters, model.parameterCount());
    assertTrue(model.prunedHeads().isEmpty());
  }

  @Test
  void pruningInStepsInAnyOrder() {
    model.pruneHeads(Heads.parse("0:1,2;2:0"));
    try (Model steps = Model.load(golden.folder)) {
      steps.pruneHeads(Heads.parse("0:2"));
      steps.pruneHeads(Heads.parse("2:0"));
      steps.pruneHeads(Heads.parse("0:1"));
      assertArrayEquals(logits(model), logits(steps));
      assertEquals(model.prunedHeads(), steps.prunedHeads());
    }
  }

  @Test
  void wholeLayersSaveAndReload() {
    model.pruneHeads(Heads.parse("1:0,1,2,3"));
    model.save(temporary);
    try (Model reloaded = Model.load(temporary)) {
      assertArrayEquals(logits(model), logits(reloaded));
      assertArrayEquals(new int[] {4, 0, 4}, mapHeads(reloaded));
    }
  }

  @Test
  void fullShapeFoldersHaveZerosForPrunedHeads() {
    model.pruneHeads(Heads.parse("0:1,3;1:0,1,2,3"));
    model.save(temporary, Model.SaveFormat.FULL_SHAPE);
    try (Model full = Model.load(temporary)) {
      assertTrue(full.prunedHeads().isEmpty());
      assertClose(logits(model), logits(full));
      assertEquals(List.of(0, 1, 2, 3), full.heads(1));
    }
    // Also of a checkpoint that never had the heads.
    try (Model smaller = Model.load(Golden.folder(pruned()))) {
      Path folder = temporary.resolve("grown");
      smaller.save(folder, Model.SaveFormat.FULL_SHAPE);
      try (Model full = Model.load(folder)) {
        assertTrue(full.prunedHeads().isEmpty());
        assertClose(logits(smaller), logits(full));
      }
    }
  }

  @Test
  void savingOverItsOwnCheckpointWorks() throws IOException {
    Path folder = temporary.resolve("own");
    model.save(folder);
    try (Model own = Model.load(folder)) {
      own.pruneHeads(Heads.parse("0:0"));
      own.save(folder);
      own.restoreHeads();
      assertArrayEquals(logits(model), logits(own), "the open checkpoint is the old file");
    }
    try (Model again = Model.load(folder)) {
      assertEquals(Heads.parse("0:0"), again.prunedHeads());
    }
    try (var files = Files.list(folder)) {
      assertEquals(
          List.of("config.json", "model.safetensors"),
          files.map(file -> file.getFileName().toString()).sorted().toList());
    }
  }

  @ParameterizedTest
  @CsvSource({"float16, F16", "bfloat16, BF16"})
  void storedTypesAreKept(String name, SafetensorsType type) {
    Path original = Golden.checkpoint(name);
    Path folder = temporary.resolve("pruned");
    Heads heads = Heads.parse("0:1,2;1:0,1,2,3");
    batch = Batch.of(new int[] {1, 2, 3}, new int[] {23});
    try (Model half = Model.load(original)) {
      half.pruneHeads(heads);
      half.setClassifier(
          List.of("one"), ModelConfig.Pooling.POOLER, new float[][] {ramp(8)}, new float[1]);
      half.save(folder);
      try (Model reloaded = Model.load(folder)) {
        assertEquals(heads, reloaded.prunedHeads());
        assertArrayEquals(logits(half), logits(reloaded));
        assertArrayEquals(states(half), states(reloaded));
      }
    }
    try (SafetensorsFile before = SafetensorsFile.open(original.resolve("model.safetensors"));
        SafetensorsFile after = SafetensorsFile.open(folder.resolve("model.safetensors"))) {
      assertEquals(before.tensors().size() + 2, after.tensors().size(), "and the classifier");
      assertEquals(SafetensorsType.F32, after.tensor("classifier.weight").type());
      before
          .tensors()
          .forEach(
              (tensor, from) -> {
                SafetensorsFile.Tensor to = after.tensor("bert." + tensor);
                assertEquals(type, to.type(), tensor);
                assertArrayEquals(
                    kept(tensor, from.shape(), bytes(before, from)), bytes(after, to), tensor);
              });
    }
  }

  private static float[] ramp(int length) {
    float[] values = new float[length];
    for (int i = 0; i < length; i++) {
      values[i] = i - length / 3f;
    }
    return values;
  }

  private float[] states(Model of) {
    try (Activations run = of.run(batch, Capture.HIDDEN_STATES)) {
      return run.hiddenState(of.config().numHiddenLayers()).toArray();
    }
  }

  private static byte[] bytes(SafetensorsFile file, SafetensorsFile.Tensor tensor) {
    ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes());
    file.read(tensor, bytes);
    return bytes.array();
  }

  /**
   * What of a tensor of two-byte elements stays when heads 1 and 2 of 4 heads of width 2 go in
   * layer 0, and all in layer 1.
   */
  private static byte[] kept(String name, List<Long> shape, byte[] bytes) {
    boolean rows = name.matches(".*attention\\.self\\.(query|key|value)\\.(weight|bias)");
    boolean columns = name.endsWith("attention.output.dense.weight");
    if (!rows && !columns) {
      return bytes;
    }
    int width = shape.size() == 1 ? 1 : 8;
    ByteBuffer left = ByteBuffer.allocate(bytes.length);
    for (int i = 0; i < bytes.length / 2; i++) {
      int head = (rows ? i / width : i % width) / 2;
      if (name.contains("layer.0.") && (head == 0 || head == 3)) {
        left.put(bytes, 2 * i, 2);
      }
    }
    return Arrays.copyOf(left.array(), left.position());
  }

  @Test
  void refusedPlansChangeNothing() {
    model.pruneHeads(Heads.parse("1:2"));
    float[] before = logits(model);
    Map<String, String> refused =
        Map.of(
            "0:0;3:0", "layer 3 does not exist: the model has layers 0 to 2",
            "0:0,4", "head 4 of layer 0 does not exist: the model has heads 0 to 3",
            "0:0;1:2", "head 2 of layer 1 is already pruned");
    refused.forEach(
        (plan, text) -> {
          BertologyException e =
              assertThrows(
                  BertologyException.class, () -> model.pruneHeads(Heads.parse(plan)), plan);
          assertEquals(BertologyException.Kind.INVALID_ARGUMENT, e.kind());
          assertTrue(e.getMessage().contains(text), e.getMessage());
        });
    assertEquals(Heads.parse("1:2"), model.prunedHeads());
    assertArrayEquals(before, logits(model));
    HeadMask mask = HeadMask.without(Heads.parse("1:2"), model.config());
    BertologyException e = assertThrows(BertologyException.class, () -> model.maskHeads(mask));
    assertTrue(e.getMessage().contains("head 2 of layer 1 is pruned"), e.getMessage());
    assertThrows(
        BertologyException.class, () -> model.maskHeads(HeadMask.ones(3, 5)), "another shape");
    Map<String, String> notRestored =
        Map.of(
            "1:2;0:0", "head 0 of layer 0 is not pruned",
            "1:2;9:0", "layer 9 does not exist: the model has layers 0 to 2",
            "1:2,7", "head 7 of layer 1 does not exist: the model has heads 0 to 3");
    notRestored.forEach(
        (heads, text) -> {
          BertologyException failure =
              assertThrows(
                  BertologyException.class, () -> model.restoreHeads(Heads.parse(heads)), heads);
          assertEquals(BertologyException.Kind.INVALID_ARGUMENT, failure.kind());
          assertTrue(failure.getMessage().contains(text), failure.getMessage());
        });
    assertEquals(Heads.parse("1:2"), model.prunedHeads());
    assertArrayEquals(before, logits(model));
  }

  @Test
  void classifiersThatAreSetAreSaved() {
    float[][] weight = new float[2][32];
    weight[0][0] = 1;
    weight[1][3] = -2;
    model.setClassifier(
        List.of("bad", "good"), ModelConfig.Pooling.CLS_NORMALIZED, weight, new float[] {0.5f, 0});
    model.pruneHeads(Heads.parse("0:0"));
    model.save(temporary);
    batch = Batch.of(new int[] {1, 2, 3}, new int[] {4, 5});
    try (Model reloaded = Model.load(temporary)) {
      assertEquals(List.of("bad", "good"), reloaded.config().labels());
      assertEquals(ModelConfig.Pooling.CLS_NORMALIZED, reloaded.config().pooling());
      assertArrayEquals(logits(model), logits(reloaded));
      try (Activations run = reloaded.run(batch, Capture.POOLER_OUTPUT, Capture.LOGITS)) {
        double length = 0;
        for (float value : run.poolerOutput(0).toArray()) {
          length += value * value;
        }
        assertEquals(1, length, 1e-6);
        assertEquals(run.poolerOutput(0).get(0) + 0.5f, run.logits(0).get(0), 1e-6);
      }
    }
  }
}
