package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Sums of gradients that the device adds up, against the gradients of each example. */
class HeadGradientAccumulatorTest {
  private Golden golden;
  private Model model;
  private Batch batch;

  @BeforeEach
  void load() {
    golden = new Golden("classification");
    model = Model.load(golden.folder);
    batch = golden.batch(model.config());
  }

  @AfterEach
  void close() {
    model.close();
    golden.close();
  }

  private static void assertClose(double[][] expected, double[][] actual) {
    for (int l = 0; l < expected.length; l++) {
      assertArrayEquals(expected[l], actual[l], 1e-12, "layer " + l);
    }
  }

  /** What the run captured, added up, so many times over. */
  private static void assertSums(Activations run, HeadGradientSums sums, int times) {
    int heads = sums.heads();
    double[][] signed = new double[sums.layers()][heads];
    double[][] absolute = new double[sums.layers()][heads];
    double[][] squared = new double[sums.layers()][heads];
    double[][] byToken = new double[sums.layers()][heads];
    int examples = run.batch().examples();
    float[] gradients = run.headGradients().toArray();
    float[] tokens = run.tokenHeadGradients().toArray();
    for (int i = 0; i < gradients.length; i++) {
      int l = i / heads % sums.layers();
      int h = i % heads;
      double g = gradients[i];
      signed[l][h] += times * g;
      absolute[l][h] += times * Math.abs(g);
      squared[l][h] += times * g * g;
      byToken[l][h] += times * (double) tokens[i];
    }
    assertClose(signed, sums.signed());
    assertClose(absolute, sums.absolute());
    assertClose(squared, sums.squared());
    assertClose(byToken, sums.tokenAbsolute());
    assertEquals(times * examples, sums.examples());
    assertEquals(times * run.batch().tokens(), sums.tokens());
  }

  private static RunOptions capturing() {
    return RunOptions.capturing(Capture.HEAD_GRADIENTS, Capture.TOKEN_HEAD_GRADIENTS);
  }

  @Test
  void runsAddUpUntilTheSumsAreReset() {
    model.pruneHeads(Heads.parse("1:2"));
    try (HeadGradientAccumulator sums = new HeadGradientAccumulator(model);
        Activations run = model.run(batch, capturing().accumulating(sums))) {
      assertSums(run, sums.read(), 1);
      assertEquals(0, sums.read().absolute()[1][2], "pruned");
      model.run(batch, RunOptions.capturing().accumulating(sums)).close();
      assertSums(run, sums.read(), 2);
      assertSums(run, sums.read().plus(sums.read()), 4);
      model.run(batch, capturing()).close();
      assertSums(run, sums.read(), 2);
      sums.reset();
      assertSums(run, sums.read(), 0);
    }
  }

  @Test
  void maskedHeadsCountWhereTheyAreAskedFor() {
    RunOptions options =
        capturing().headMask(HeadMask.without(Heads.parse("0:1,3"), model.config()));
    for (RunOptions chosen : List.of(options, options.maskedGradients())) {
      try (HeadGradientAccumulator sums = new HeadGradientAccumulator(model);
          Activations run = model.run(batch, chosen.accumulating(sums))) {
        assertSums(run, sums.read(), 1);
        assertEquals(chosen.hasMaskedGradients(), sums.read().absolute()[0][1] > 0);
      }
    }
  }

  @Test
  void failedRunsAddNothing() {
    try (HeadGradientAccumulator sums = new HeadGradientAccumulator(model);
        Activations run = model.run(batch, capturing().accumulating(sums))) {
      RunOptions options = RunOptions.capturing().accumulating(sums);
      BertologyException unlabelled =
          assertThrows(
              BertologyException.class, () -> model.run(Batch.of(new int[] {1, 2}), options));
      assertEquals(Kind.INVALID_ARGUMENT, unlabelled.kind());
      assertTrue(unlabelled.getMessage().contains("need labels"), unlabelled.getMessage());
      Batch bad = Batch.of(new int[] {1, 1 << 20}).withLabels(0);
      assertThrows(BertologyException.class, () -> model.run(bad, options));
      assertSums(run, sums.read(), 1);
    }
  }

  @Test
  void sumsAreForModelsOfOneShape() {
    try (Golden other = new Golden("narrow");
        Model narrow = Model.load(other.folder);
        HeadGradientAccumulator sums = new HeadGradientAccumulator(narrow)) {
      BertologyException e =
          assertThrows(
              BertologyException.class,
              () -> model.run(batch, RunOptions.capturing().accumulating(sums)));
      assertEquals(Kind.INVALID_ARGUMENT, e.kind());
      assertTrue(e.getMessage().contains("accumulator: sums of"), e.getMessage());
    }
    assertThrows(
        BertologyException.class,
        () -> HeadGradientSums.none(2, 3).plus(HeadGradientSums.none(3, 2)));
  }

  @Test
  void threadsShareSums() throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(4);
    try (HeadGradientAccumulator sums = new HeadGradientAccumulator(model);
        Activations run = model.run(batch, capturing())) {
      RunOptions options = RunOptions.capturing().accumulating(sums);
      List<? extends Future<?>> runs =
          IntStream.range(0, 40)
              .mapToObj(i -> threads.submit(() -> model.run(batch, options).close()))
              .toList();
      for (Future<?> each : runs) {
        each.get();
      }
      assertSums(run, sums.read(), 40);
    } finally {
      threads.shutdown();
    }
  }

  @Test
  void closedSumsSaySo() {
    HeadGradientAccumulator sums = new HeadGradientAccumulator(model);
    sums.close();
    sums.close();
    assertEquals(Kind.CLOSED, assertThrows(BertologyException.class, sums::read).kind());
    BertologyException e =
        assertThrows(
            BertologyException.class,
            () -> model.run(batch, RunOptions.capturing().accumulating(sums)));
    assertEquals(Kind.CLOSED, e.kind());
    model.run(batch, Capture.LOSS).close();
  }
}
