package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;
import org.bertology4j.internal.Native;
import org.bertology4j.internal.NativeActivations;
import org.bertology4j.internal.binding.bertology;
import org.junit.jupiter.api.Test;

/** Who owns what, and what happens to those who come too late. */
class LifecycleTest {
  private static final Batch BATCH =
      Batch.of(new int[] {1, 2, 3, 4, 5}, new int[] {6, 7}).withLabels(0, 1);

  private static final String MODEL = "model is";
  private static final String RESULTS = "activations of this run are";

  private static Model load() {
    return Model.load(Golden.folder("classification"));
  }

  /** Each says which thing is closed. */
  private static void assertClosed(String what, org.junit.jupiter.api.function.Executable call) {
    BertologyException e = assertThrows(BertologyException.class, call);
    assertEquals(BertologyException.Kind.CLOSED, e.kind());
    assertEquals("the " + what + " closed", e.getMessage());
  }

  private static void assertInvalid(String text, org.junit.jupiter.api.function.Executable call) {
    BertologyException e = assertThrows(BertologyException.class, call, text);
    assertEquals(BertologyException.Kind.INVALID_ARGUMENT, e.kind());
    assertTrue(e.getMessage().contains(text), e.getMessage());
  }

  @Test
  void closedModelsSaySo() {
    Model model = load();
    Activations run = model.run(BATCH, Capture.LOGITS);
    model.close();
    model.close();
    assertEquals(3, run.logits(0).elements(), "results outlive their model");
    run.close();
    assertClosed(MODEL, () -> model.run(BATCH, Capture.LOGITS));
    assertClosed(MODEL, () -> model.pruneHeads(Heads.parse("0:0")));
    assertClosed(MODEL, model::restoreHeads);
    assertClosed(MODEL, model::parameterCount);
    assertClosed(MODEL, () -> model.maskHeads(HeadMask.ones(model.config())));
    assertClosed(MODEL, () -> model.save(Path.of("never")));
    assertClosed(MODEL, () -> model.heads(0));
    assertClosed(MODEL, model::hasClassifier);
    assertClosed(MODEL, () -> PruningPlan.random(model, 1));
    assertClosed(MODEL, () -> new HeadImportance.Accumulator(model));
    assertClosed(
        MODEL,
        () ->
            model.setClassifier(
                List.of("one"), ModelConfig.Pooling.CLS, new float[1][32], new float[1]));
    assertFalse(Files.exists(Path.of("never")));
  }

  @Test
  void closedActivationsSaySo() {
    try (Model model = load()) {
      Activations run = model.run(BATCH, Capture.LOGITS, Capture.HIDDEN_STATES);
      FloatTensor states = run.hiddenState(1, 0);
      FloatTensor slice = states.slice(1);
      run.close();
      run.close();
      assertClosed(RESULTS, () -> states.get(0, 0));
      assertClosed(RESULTS, states::toArray);
      assertClosed(RESULTS, states::asBuffer);
      assertClosed(RESULTS, () -> slice.get(0));
      assertClosed(RESULTS, run::logits);
      try (Activations next = model.run(BATCH, Capture.LOGITS, Capture.HIDDEN_STATES)) {
        assertClosed(RESULTS, () -> states.get(0, 0));
        assertTrue(Float.isFinite(next.hiddenState(1, 0).get(0, 0)));
      }
    }
  }

  @Test
  void closedDevicesSaySoAndModelsKeepThemOpen() {
    Device device = Device.open("cpu", 2);
    Model model =
        Model.load(Golden.folder("classification"), ModelOptions.defaults().device(device));
    assertTrue(device.description().contains("threads: 2"), device.description());
    assertEquals(device, model.device());
    device.close();
    device.close();
    assertClosed("device is", device::description);
    assertTrue(Float.isFinite(firstLogit(model)), "the model has a share of its own");
    model.close();
    try (Model own = load()) {
      own.device().close();
      assertTrue(Float.isFinite(firstLogit(own)));
    }
    BertologyException e = assertThrows(BertologyException.class, () -> Device.open("cuda:0"));
    assertEquals(BertologyException.Kind.DEVICE, e.kind());
    assertTrue(e.getMessage().contains("device cuda:0: "), e.getMessage());
    e = assertThrows(BertologyException.class, () -> Device.open("tpu"));
    assertEquals(BertologyException.Kind.INVALID_ARGUMENT, e.kind());
    assertTrue(e.getMessage().contains("\"tpu\", expected \"cpu\""), e.getMessage());
  }

  @Test
  void buffersStayReadable() throws InterruptedException {
    FloatBuffer buffer;
    float[] copy;
    try (Model model = load()) {
      try (Activations run = model.run(BATCH, Capture.HIDDEN_STATES)) {
        buffer = run.hiddenState(2, 0).asBuffer();
        copy = run.hiddenState(2, 0).toArray();
      }
      for (int i = 0; i < 20; i++) {
        model.run(BATCH, Capture.HIDDEN_STATES).close();
      }
    }
    System.gc();
    Thread.sleep(50);
    assertTrue(buffer.isDirect());
    assertTrue(buffer.isReadOnly());
    float[] later = new float[buffer.remaining()];
    buffer.get(later);
    assertArrayEquals(copy, later);
  }

  @Test
  void tensorsCheckTheirIndices() {
    try (Model model = load();
        Activations run = model.run(BATCH, Capture.ATTENTIONS, Capture.LOSS, Capture.LOGITS)) {
      FloatTensor maps = run.attention(0, 0);
      assertEquals(100, maps.elements());
      assertEquals(3, maps.rank());
      for (long[] index : new long[][] {{4, 0, 0}, {0, 5, 0}, {0, 0, 5}, {-1, 0, 0}}) {
        assertInvalid("is outside shape [4, 5, 5]", () -> maps.get(index[0], index[1], index[2]));
      }
      assertInvalid("2 indices for a tensor of shape [4, 5, 5]", () -> maps.get(0, 0));
      assertInvalid("index 4 of dimension 0 is outside shape [4, 5, 5]", () -> maps.slice(4));
      assertInvalid("dimension 3 of a tensor", () -> maps.size(3));
      assertInvalid(
          "99 elements from 0 on has no room for shape [4, 5, 5]",
          () -> maps.copyTo(new float[99], 0));
      assertInvalid("101 elements from 2 on has no room", () -> maps.copyTo(new float[101], 2));
      assertInvalid("layer 3 does not exist: there are layers 0 to 2", () -> run.attention(3, 0));
      assertInvalid(
          "example 2 does not exist: the batch has examples 0 to 1", () -> run.attention(0, 2));
      assertInvalid("example -1 does not exist", () -> run.attention(0, -1));
      assertInvalid("HIDDEN_STATES of layer 0 was not asked for", () -> run.hiddenState(0, 0));
      assertEquals(0, run.get(Capture.LOSS, 0, 1).rank());
      assertEquals(run.loss().get(1), run.get(Capture.LOSS, 0, 1).get());
      float[] all = maps.toArray();
      for (int h = 0; h < 4; h++) {
        assertEquals(all[h * 25 + 7], maps.slice(h).slice(1).get(2));
        assertEquals(all[h * 25 + 7], maps.get(h, 1, 2));
      }
      assertEquals("FloatTensor[4, 5, 5]", maps.toString());
    }
  }

  @Test
  void manyThreadsShareAModel() throws Exception {
    try (Model model = load()) {
      float[] expected;
      try (Activations run = model.run(BATCH, Capture.HEAD_GRADIENTS)) {
        expected = run.headGradients().toArray();
      }
      ExecutorService threads = Executors.newFixedThreadPool(6);
      List<Future<Void>> results = new ArrayList<>();
      for (int t = 0; t < 6; t++) {
        Callable<Void> task =
            () -> {
              for (int i = 0; i < 100; i++) {
                try (Activations run = model.run(BATCH, Capture.HEAD_GRADIENTS)) {
                  assertArrayEquals(expected, run.headGradients().toArray());
                }
              }
              return null;
            };
        results.add(threads.submit(task));
      }
      for (Future<Void> result : results) {
        result.get(60, TimeUnit.SECONDS);
      }
      threads.shutdown();
    }
  }

  @Test
  void closingWaitsForRunsOfOtherThreads() throws Exception {
    for (int round = 0; round < 20; round++) {
      Model model = load();
      ExecutorService threads = Executors.newFixedThreadPool(3);
      List<Future<Integer>> results = new ArrayList<>();
      for (int t = 0; t < 3; t++) {
        Callable<Integer> task =
            () -> {
              for (int i = 0; ; i++) {
                try (Activations run = model.run(BATCH, Capture.LOGITS)) {
                  assertTrue(Float.isFinite(run.logits().get(0, 0)));
                } catch (BertologyException e) {
                  assertEquals(BertologyException.Kind.CLOSED, e.kind());
                  assertEquals("the model is closed", e.getMessage());
                  return i;
                }
              }
            };
        results.add(threads.submit(task));
      }
      Thread.sleep(5);
      model.close();
      for (Future<Integer> result : results) {
        result.get(60, TimeUnit.SECONDS);
      }
      threads.shutdown();
    }
  }

  @Test
  void readingWhileAnotherThreadClosesNeverCrashes() throws Exception {
    try (Model model = load()) {
      for (int round = 0; round < 300; round++) {
        Activations run = model.run(BATCH, Capture.HIDDEN_STATES);
        FloatTensor states = run.hiddenState(0, 0);
        AtomicBoolean started = new AtomicBoolean();
        Thread reader =
            new Thread(
                () -> {
                  try {
                    while (true) {
                      states.toArray();
                      states.get(1, 1);
                      started.set(true);
                    }
                  } catch (BertologyException e) {
                    assertEquals(BertologyException.Kind.CLOSED, e.kind());
                  }
                });
        reader.start();
        while (!started.get()) {
          Thread.onSpinWait();
        }
        run.close();
        reader.join(10_000);
        assertFalse(reader.isAlive());
      }
    }
  }

  @Test
  void pruningWhileOthersRun() throws Exception {
    try (Model model = load()) {
      AtomicBoolean stop = new AtomicBoolean();
      Callable<Void> task =
          () -> {
            while (!stop.get()) {
              model.run(BATCH, Capture.LOGITS).close();
            }
            return null;
          };
      ExecutorService threads = Executors.newFixedThreadPool(2);
      List<Future<Void>> results = List.of(threads.submit(task), threads.submit(task));
      for (int i = 0; i < 50; i++) {
        model.pruneHeads(Heads.parse("0:" + i % 4 + ";2:1"));
        model.restoreHeads();
      }
      stop.set(true);
      for (Future<Void> result : results) {
        result.get(60, TimeUnit.SECONDS);
      }
      threads.shutdown();
    }
  }

  @Test
  void pruningMaskedHeadsWhileOthersRun() throws Exception {
    try (Model model = load()) {
      AtomicBoolean stop = new AtomicBoolean();
      Callable<Void> task =
          () -> {
            while (!stop.get()) {
              model.run(BATCH, Capture.LOGITS).close();
            }
            return null;
          };
      ExecutorService threads = Executors.newFixedThreadPool(2);
      List<Future<Void>> results = List.of(threads.submit(task), threads.submit(task));
      Heads heads = Heads.parse("0:1;2:1");
      for (int i = 0; i < 500; i++) {
        model.maskHeads(HeadMask.without(heads, model.config()));
        model.pruneHeads(heads);
        model.restoreHeads();
      }
      stop.set(true);
      for (Future<Void> result : results) {
        result.get(60, TimeUnit.SECONDS);
      }
      threads.shutdown();
    }
  }

  @Test
  void resultsMayBeForgotten() throws Exception {
    try (Model model = load()) {
      for (int i = 0; i < 500; i++) {
        model.run(BATCH, Capture.ATTENTIONS, Capture.HIDDEN_STATES); // never closed
        if (i % 100 == 0) {
          System.gc();
          Thread.sleep(20);
        }
      }
      assertTrue(Float.isFinite(firstLogit(model)));
    }
  }

  @Test
  void buffersEndWhereTheMemoryEnds() throws ReflectiveOperationException {
    try (Model model = load();
        Activations run = model.run(BATCH, Capture.ATTENTIONS)) {
      var field = Activations.class.getDeclaredField("memory");
      field.setAccessible(true);
      NativeActivations memory = (NativeActivations) field.get(run);
      long[] mapped = new long[2];
      Native.check(bertology.bertology_activations_memory(memory.handle(), mapped));
      assertEquals(mapped[1] / Float.BYTES, memory.segment(0).capacity());
    }
  }

  @Test
  void layersWithoutHeadsHaveEmptyTensors() {
    try (Model model = load()) {
      int heads = model.config().numAttentionHeads();
      model.pruneHeads(Heads.of(Map.of(0, IntStream.range(0, heads).boxed().toList())));
      Activations run = model.run(BATCH, Capture.ATTENTIONS.layers(0));
      FloatTensor map = run.attention(0, 0);
      assertEquals(0, map.elements());
      assertEquals(0, map.asBuffer().capacity());
      assertEquals(0, map.toArray().length);
      run.close();
      assertClosed("activations of this run are", map::asBuffer);
    }
  }

  @Test
  void masksOfAnotherShapeAreRefused() {
    try (Model model = load()) {
      RunOptions options = RunOptions.capturing(Capture.LOGITS).headMask(HeadMask.ones(7, 9));
      BertologyException e =
          assertThrows(BertologyException.class, () -> model.run(BATCH, options));
      assertEquals(BertologyException.Kind.INVALID_ARGUMENT, e.kind());
      assertTrue(e.getMessage().startsWith("a head mask of 7 layers of 9 heads"), e.getMessage());
    }
  }

  private static float firstLogit(Model model) {
    try (Activations run = model.run(BATCH, Capture.LOGITS)) {
      return run.logits().get(0, 0);
    }
  }
}
