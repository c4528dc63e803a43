package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.Random;
import java.util.function.Function;
import java.util.stream.Stream;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Many head masks over the same data. */
class MaskSweepTest {
  @TempDir Path temporary;
  private Golden golden;
  private Model model;

  @BeforeEach
  void load() {
    golden = new Golden("classification");
    model = Model.load(golden.folder);
  }

  @AfterEach
  void close() {
    model.close();
    golden.close();
  }

  private List<Batch> batches() {
    return HeadImportanceTest.batches(golden, model.config(), 1);
  }

  /** All heads, then masks of any values for the heads that the model has, some more than once. */
  static List<HeadMask> masks(Model model, int count) {
    Random random = new Random(3);
    List<HeadMask> masks = new ArrayList<>(List.of(HeadMask.ones(model.config())));
    while (masks.size() < count) {
      HeadMask mask = masks.get(random.nextInt(masks.size()));
      for (Heads.Head head : HeadAblation.counting(model)) {
        if (random.nextInt(4) == 0) {
          mask = mask.with(head.layer(), head.head(), random.nextInt(3) / 2f);
        }
      }
      masks.add(mask);
    }
    masks.add(masks.get(1));
    return masks;
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "classification",
        "pruned",
        "regression",
        "masked_lm",
        "gpt2_classification",
        "gpt2_lm",
        "gpt2_pruned",
        "gpt_lm"
      })
  void eachMaskGivesWhatItGivesAlone(String name) {
    try (Golden other = new Golden(name);
        Model swept = Model.load(other.folder)) {
      Batch batch = other.batch(swept.config());
      Capture[] captures =
          batch.predictsTokens()
              ? new Capture[] {Capture.LOSS, Capture.TOKEN_LOSSES, Capture.TOKEN_PREDICTIONS}
              : new Capture[] {Capture.LOSS, Capture.LOGITS, Capture.POOLER_OUTPUT};
      List<HeadMask> masks = masks(swept, 9);
      RunOptions options = RunOptions.capturing(captures);
      try (Activations sweep = swept.run(batch, options.headMasks(masks))) {
        assertEquals(masks.size(), sweep.masks());
        for (int m = 0; m < masks.size(); m++) {
          Activations ofMask = sweep.ofMask(m);
          assertEquals(0, ofMask.masks());
          try (Activations alone = swept.run(batch, options.headMask(masks.get(m)))) {
            assertArrayEquals(alone.loss().toArray(), ofMask.loss().toArray());
            assertArrayEquals(alone.loss().shape(), ofMask.loss().shape());
            for (Capture capture : captures) {
              for (int b = 0; b < batch.examples(); b++) {
                FloatTensor expected = alone.get(capture, 0, b);
                assertArrayEquals(expected.shape(), ofMask.get(capture, 0, b).shape());
                assertArrayEquals(expected.toArray(), ofMask.get(capture, 0, b).toArray());
              }
            }
          }
          ofMask.close(); // the sweep stays
        }
      }
      MaskSweep sweep = MaskSweep.of(swept, List.of(batch), MaskScorer.meanLoss());
      double[] scores = sweep.scores(masks);
      for (int m = 0; m < masks.size(); m++) {
        assertEquals(meanLoss(swept, batch, masks.get(m)), scores[m], 1e-12);
      }
    }
  }

  private static double meanLoss(Model model, Batch batch, HeadMask mask) {
    if (batch.predictsTokens()) {
      return LanguageModelScore.measure(model, List.of(batch), mask).meanLoss();
    }
    try (Activations run = model.run(batch, RunOptions.capturing(Capture.LOSS).headMask(mask))) {
      float[] losses = run.loss().toArray();
      double sum = 0;
      for (float loss : losses) {
        sum += loss;
      }
      return sum / losses.length;
    }
  }

  @Test
  void saysWhatIsWrong() {
    Batch batch = golden.batch(model.config());
    List<HeadMask> masks = masks(model, 2);
    RunOptions loss = RunOptions.capturing(Capture.LOSS);
    Activations sweep = model.run(batch, loss.headMasks(masks));
    assertInvalid("ask ofMask", sweep::loss);
    assertInvalid("ask ofMask", () -> sweep.get(Capture.LOSS, 0, 0));
    assertInvalid("masks 0 to 2", () -> sweep.ofMask(3));
    assertInvalid("no sweep", () -> sweep.ofMask(1).ofMask(0));
    assertInvalid("example 9 does not exist", () -> sweep.ofMask(1).get(Capture.LOSS, 0, 9));
    FloatTensor view = sweep.ofMask(1).loss();
    sweep.close();
    assertEquals(Kind.CLOSED, assertThrows(BertologyException.class, view::toArray).kind());
    try (Activations run = model.run(batch, loss)) {
      assertInvalid("no sweep", () -> run.ofMask(0));
    }
    assertInvalid("at least one", () -> loss.headMasks(List.of()));
    assertInvalid(
        "a sweep over head masks shows",
        () -> model.run(batch, RunOptions.capturing(Capture.ATTENTIONS).headMasks(masks)));
    assertInvalid(
        "for a model of", () -> model.run(batch, loss.headMasks(List.of(HeadMask.ones(1, 2)))));
    assertInvalid(
        "at least one batch", () -> MaskSweep.of(model, List.of(), MaskScorer.meanLoss()));
    model.pruneHeads(PruningPlan.of(Heads.parse("0:1")));
    assertInvalid(
        "head 1 of layer 0 is pruned",
        () -> model.run(batch, loss.headMasks(List.of(masks.get(0), masks.get(0).with(0, 1, 0f)))));
  }

  private static void assertInvalid(String saying, org.junit.jupiter.api.function.Executable does) {
    BertologyException e = assertThrows(BertologyException.class, does);
    assertEquals(Kind.INVALID_ARGUMENT, e.kind());
    assertTrue(e.getMessage().contains(saying), e.getMessage());
  }

  @Test
  void dividesTheDataAmongModels() {
    List<HeadMask> masks = masks(model, 5);
    double[] expected = MaskSweep.of(model, batches(), MaskScorer.accuracy()).scores(masks);
    List<String> devices = Stream.generate(() -> "cpu").limit(3).toList();
    try (ModelReplicas three =
        ModelReplicas.load(golden.folder, ModelOptions.defaults(), devices)) {
      assertArrayEquals(
          expected, MaskSweep.of(three, batches(), MaskScorer.accuracy()).scores(masks));
    }
  }

  /** Counts the batches that are run, and interrupts the thread before one of them. */
  private static final class Watch implements Function<List<Batch>, Iterable<Batch>> {
    final int interruptBefore;
    int begun;

    Watch(int interruptBefore) {
      this.interruptBefore = interruptBefore;
    }

    @Override
    public Iterable<Batch> apply(List<Batch> batches) {
      Iterator<Batch> all = batches.iterator();
      return () ->
          new Iterator<>() {
            @Override
            public boolean hasNext() {
              return all.hasNext();
            }

            @Override
            public Batch next() {
              if (begun == interruptBefore) {
                Thread.currentThread().interrupt();
              } else {
                begun++;
              }
              return all.next();
            }
          };
    }
  }

  private MaskSweep saved(Path file) {
    return MaskSweep.of(model, batches(), MaskScorer.meanLoss()).savingTo(file, "masks of a test");
  }

  @Test
  void goesOnWhereItWasInterrupted() {
    Path file = temporary.resolve("sweep.jsonl");
    List<HeadMask> masks = masks(model, 5);
    double[] expected = MaskSweep.of(model, batches(), MaskScorer.meanLoss()).scores(masks);
    Watch first = new Watch(2);
    BertologyException e =
        assertThrows(BertologyException.class, () -> saved(file).through(first).scores(masks));
    assertTrue(Thread.interrupted());
    assertEquals(Kind.INTERRUPTED, e.kind());
    Watch rest = new Watch(-1);
    assertArrayEquals(expected, saved(file).through(rest).scores(masks));
    assertEquals(batches().size() - 2, rest.begun);
    Watch none = new Watch(-1);
    assertArrayEquals(expected, saved(file).through(none).scores(masks));
    assertEquals(0, none.begun);
    // Other masks are other work, in the same file.
    Watch others = new Watch(-1);
    saved(file).through(others).scores(masks.subList(0, 3));
    assertEquals(batches().size(), others.begun);
    assertArrayEquals(expected, saved(file).through(none).scores(masks));
    assertEquals(0, none.begun);
  }

  @Test
  void goesOnFromAFileThatEndsAnywhere() throws IOException {
    Path file = temporary.resolve("sweep.jsonl");
    List<HeadMask> masks = masks(model, 4);
    double[] expected = saved(file).scores(masks);
    byte[] whole = Files.readAllBytes(file);
    int header = new String(whole, StandardCharsets.UTF_8).indexOf('\n') + 1;
    for (int size = header; size < whole.length; size += 7) {
      Files.write(file, Arrays.copyOf(whole, size));
      assertArrayEquals(expected, saved(file).scores(masks));
      assertArrayEquals(whole, Files.readAllBytes(file));
    }
  }

  @Test
  void refusesTheFileOfAnotherSweep() throws IOException {
    Path file = temporary.resolve("sweep.jsonl");
    List<HeadMask> masks = masks(model, 2);
    saved(file).scores(masks);
    String before = Files.readString(file);
    MaskSweep other = MaskSweep.of(model, batches(), MaskScorer.accuracy());
    assertInvalid("another sweep", () -> other.savingTo(file, "masks of a test"));
    assertInvalid(
        "masks of a test",
        () -> MaskSweep.of(model, batches(), MaskScorer.meanLoss()).savingTo(file, "another test"));
    List<Batch> fewer = batches().subList(1, batches().size());
    assertInvalid(
        "another sweep",
        () -> MaskSweep.of(model, fewer, MaskScorer.meanLoss()).savingTo(file, "masks of a test"));
    model.pruneHeads(PruningPlan.of(Heads.parse("0:1")));
    assertInvalid("another sweep", () -> saved(file));
    model.restoreHeads();
    saved(file);
    float[][] weight = new float[model.config().labels().size()][model.config().hiddenSize()];
    model.setClassifier(
        model.config().labels(), model.config().pooling(), weight, new float[weight.length]);
    assertInvalid("another sweep", () -> saved(file));
    assertEquals(before, Files.readString(file));
  }

  @Test
  void refusesWhatIsNoFileOfASweep() throws IOException {
    Path file = temporary.resolve("sweep.jsonl");
    List<HeadMask> masks = masks(model, 2);
    saved(file).scores(masks);
    String whole = Files.readString(file);
    for (String damaged :
        List.of(
            "",
            "results\n",
            "{}\n",
            "[1]\n",
            whole.replace("\"values\":[[", "\"values\":[[{"),
            whole.replace("\"masks\"", "\"mask\""),
            whole.replaceFirst("\n", "\n\n"))) {
      Files.writeString(file, damaged);
      assertInvalid("sweep.jsonl", () -> saved(file));
      assertEquals(damaged, Files.readString(file));
    }
    BertologyException e =
        assertThrows(
            BertologyException.class, () -> saved(temporary.resolve("nowhere/sweep.jsonl")));
    assertEquals(Kind.IO, e.kind());
  }
}
