package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.DoubleStream;
import org.bertology4j.internal.TorchRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HeadShapleyTest {
  private static final int ORDERS = 5;

  private Golden golden;
  private Model model;
  private List<Batch> batches;
  private MaskSweep sweep;

  @BeforeEach
  void load() {
    golden = new Golden("classification");
    model = Model.load(golden.folder);
    model.pruneHeads(PruningPlan.of(Heads.parse("1:0")));
    model.maskHeads(HeadMask.ones(model.config()).with(0, 1, 0f));
    batches = HeadImportanceTest.batches(golden, model.config(), 2);
    sweep = MaskSweep.of(model, batches, MaskScorer.meanLoss());
  }

  @AfterEach
  void close() {
    model.close();
    golden.close();
  }

  private double alone(HeadMask mask) {
    return sweep.scores(List.of(mask))[0];
  }

  /** By order and head, v(S with h) - v(S) where S stands before h. */
  private List<double[]> parts(List<Heads.Head> heads, long seed) {
    List<double[]> parts = new ArrayList<>();
    for (int i = 0; i < ORDERS; i++) {
      int[] order = new TorchRandom(seed + i).permutation(heads.size());
      HeadMask mask = model.headMask();
      for (Heads.Head head : heads) {
        mask = mask.with(head.layer(), head.head(), 0f);
      }
      double[] ofOrder = new double[heads.size()];
      for (int h : order) {
        HeadMask with = mask.with(heads.get(h).layer(), heads.get(h).head(), 1f);
        ofOrder[h] = alone(with) - alone(mask);
        mask = with;
      }
      parts.add(ofOrder);
    }
    return parts;
  }

  private static void assertSame(HeadScores expected, HeadScores actual) {
    assertEquals(expected.toString(), actual.toString());
  }

  @Test
  void isTheMeanOfWhatHeadsAddInRandomOrders() {
    HeadShapley.Result result = HeadShapley.of(ORDERS).seed(3).measure(sweep);
    List<Heads.Head> heads = HeadAblation.counting(model);
    assertEquals(result.values().ascending().size(), heads.size());
    List<double[]> parts = parts(heads, 3);
    double sum = 0;
    for (int h = 0; h < heads.size(); h++) {
      int head = h;
      double[] ofHead = parts.stream().mapToDouble(all -> all[head]).toArray();
      double mean = DoubleStream.of(ofHead).average().orElseThrow();
      double variance =
          DoubleStream.of(ofHead).map(x -> (x - mean) * (x - mean)).sum() / (ORDERS - 1);
      int l = heads.get(h).layer();
      int k = heads.get(h).head();
      assertEquals(mean, result.values().get(l, k), 1e-12);
      assertEquals(Math.sqrt(variance / ORDERS), result.standardErrors().get(l, k), 1e-12);
      sum += result.values().get(l, k);
    }
    assertEquals(alone(model.headMask()), result.whole());
    assertEquals(result.whole() - result.empty(), sum, 1e-12);
    assertEquals(0, result.truncated());
    assertNotEquals(
        result.values().toString(),
        HeadShapley.of(ORDERS).seed(4).measure(sweep).values().toString());
    assertTrue(Double.isNaN(HeadShapley.of(1).measure(sweep).standardErrors().get(0, 0)));
  }

  @Test
  void countsHeadsBehindATruncationAsNothing() {
    HeadShapley.Result whole = HeadShapley.of(1).measure(sweep);
    double distance = Math.abs(whole.whole() - whole.empty());
    HeadShapley.Result nothing = HeadShapley.of(2).tolerance(distance).measure(sweep);
    assertEquals(2, nothing.truncated());
    List<Heads.Head> heads = HeadAblation.counting(model);
    for (Heads.Head head : heads) {
      assertEquals(0, nothing.values().get(head.layer(), head.head()));
    }
    // With a tolerance that is met on the way, the parts before it are as they were.
    HeadShapley.Result some = HeadShapley.of(1).tolerance(distance / 2).measure(sweep);
    int[] order = new TorchRandom(1).permutation(heads.size());
    HeadMask mask = model.headMask();
    double score = whole.whole();
    for (int i = order.length - 1; i >= 0; i--) {
      Heads.Head head = heads.get(order[i]);
      boolean ended = Math.abs(score - whole.empty()) <= distance / 2;
      double part = ended ? 0 : whole.values().get(head.layer(), head.head());
      assertEquals(part, some.values().get(head.layer(), head.head()));
      if (!ended) {
        mask = mask.with(head.layer(), head.head(), 0f);
        score = alone(mask);
      }
    }
    assertThrows(BertologyException.class, () -> HeadShapley.of(0));
    assertThrows(BertologyException.class, () -> HeadShapley.of(1).tolerance(-1));
    assertThrows(BertologyException.class, () -> HeadShapley.of(1).tolerance(Double.NaN));
  }

  @Test
  void goesOnWhereItWasInterrupted(@TempDir Path temporary) {
    HeadShapley shapley = HeadShapley.of(3);
    HeadShapley.Result expected = shapley.measure(sweep);
    Path file = temporary.resolve("sweep.jsonl");
    BertologyException e =
        assertThrows(
            BertologyException.class,
            () ->
                shapley.measure(
                    sweep.savingTo(file, "a test"),
                    order -> {
                      if (order == 1) {
                        Thread.currentThread().interrupt();
                      }
                    }));
    assertTrue(Thread.interrupted());
    assertEquals(BertologyException.Kind.INTERRUPTED, e.kind());
    int[] run = {0};
    HeadShapley.Result resumed =
        shapley.measure(
            sweep
                .savingTo(file, "a test")
                .through(
                    some -> {
                      run[0] += some.size();
                      return some;
                    }));
    assertSame(expected.values(), resumed.values());
    assertSame(expected.standardErrors(), resumed.standardErrors());
    assertEquals(2 * batches.size(), run[0], "the ends and the first order were there");
  }
}
