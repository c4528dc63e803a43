package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A data set divided among models, here on one device. */
class ModelReplicasTest {
  private Golden golden;
  private ModelReplicas models;

  @BeforeEach
  void load() {
    golden = new Golden("classification");
    models = replicas(golden, 3);
  }

  private static ModelReplicas replicas(Golden golden, int count) {
    List<String> devices = Stream.generate(() -> "cpu").limit(count).toList();
    return ModelReplicas.load(golden.folder, ModelOptions.defaults(), devices);
  }

  @AfterEach
  void close() {
    models.close();
    golden.close();
  }

  /** Each of the examples a batch, again and again. */
  private List<Batch> batches(int count) {
    List<Batch> one = HeadImportanceTest.batches(golden, models.first().config(), 1);
    return Stream.iterate(0, i -> i + 1).limit(count).map(i -> one.get(i % one.size())).toList();
  }

  @ParameterizedTest
  @ValueSource(strings = {"classification", "pruned", "masked_lm", "gpt2_lm"})
  void importanceIsThatOfOneModel(String name) {
    try (Golden other = new Golden(name);
        ModelReplicas two = replicas(other, 2)) {
      for (int batchSize : new int[] {1, 2, 5}) {
        HeadImportanceTest.assertAgreesWithReference(other, two, batchSize);
      }
      List<Batch> batches = HeadImportanceTest.batches(other, two.first().config(), 1);
      HeadImportance.Accumulator[] accumulators = new HeadImportance.Accumulator[2];
      for (int i = 0; i < 2; i++) {
        accumulators[i] = new HeadImportance.Accumulator(two.first()).withHf(2).withEntropies();
        ModelReplicas chosen = i == 0 ? ModelReplicas.of(two.first()) : two;
        HeadImportance.measure(chosen, batches, accumulators[i], run -> {});
      }
      HeadImportance one = accumulators[0].result();
      HeadImportance divided = accumulators[1].result();
      for (HeadImportance.Kind kind : HeadImportance.Kind.values()) {
        assertEquals(one.scores(kind).ascending(), divided.scores(kind).ascending(), "" + kind);
      }
      assertEquals(one.meanLoss(), divided.meanLoss(), "losses are added in the batches' order");
      assertEquals(one.entropy().ascending(), divided.entropy().ascending());
    }
  }

  @Test
  void resultsComeInTheOrderOfTheBatches() {
    List<Batch> all = batches(20);
    List<Batch> seen = new ArrayList<>();
    models.run(all, RunOptions.capturing(Capture.LOGITS), run -> seen.add(run.batch()));
    assertEquals(all, seen);
    models.run(List.of(), RunOptions.capturing(), run -> seen.clear());
    assertEquals(20, seen.size());
  }

  @Test
  void whatFailsEndsThePassAndCountsNowhere() {
    List<Batch> all = new ArrayList<>(batches(8));
    all.set(5, Batch.of(new int[] {1, 1 << 20}).withLabels(0));
    HeadImportance.Accumulator accumulator = new HeadImportance.Accumulator(models.first());
    BertologyException e =
        assertThrows(
            BertologyException.class,
            () -> HeadImportance.measure(models, all, accumulator, run -> {}));
    assertTrue(e.getMessage().contains("input_ids[1]"), e.getMessage());
    // Whatever was finished is there: those before it, and those under way beside it.
    assertTrue(accumulator.examples() >= 5 && accumulator.examples() <= 7);
    assertEquals(accumulator.examples(), accumulator.result().examples());

    IllegalStateException own = new IllegalStateException("the caller's");
    HeadImportance.Accumulator counted = new HeadImportance.Accumulator(models.first());
    assertEquals(
        own,
        assertThrows(
            IllegalStateException.class,
            () ->
                HeadImportance.measure(
                    models,
                    batches(20),
                    counted,
                    run -> {
                      if (counted.examples() == 4) {
                        throw own;
                      }
                    })));
    assertTrue(counted.examples() < 20);
    assertEquals(counted.examples(), counted.result().examples());
  }

  @Test
  void interruptKeepsWhatWasFinished() {
    HeadImportance.Accumulator accumulator = new HeadImportance.Accumulator(models.first());
    List<Batch> all = batches(20);
    BertologyException e =
        assertThrows(
            BertologyException.class,
            () ->
                HeadImportance.measure(
                    models,
                    all,
                    accumulator,
                    run -> {
                      if (accumulator.examples() == 3) {
                        Thread.currentThread().interrupt();
                      }
                    }));
    assertTrue(Thread.interrupted());
    assertEquals(Kind.INTERRUPTED, e.kind());
    int finished = (int) accumulator.examples();
    assertTrue(finished >= 3 && finished < 20, "" + finished);
    HeadImportance.measure(models, all.subList(finished, 20), accumulator, run -> {});
    HeadImportance whole = HeadImportance.measure(ModelReplicas.of(models.first()), all);
    assertEquals(20, accumulator.result().examples());
    assertEquals(
        whole.scores(HeadImportance.Kind.PAPER).ascending(),
        accumulator.result().scores(HeadImportance.Kind.PAPER).ascending());
  }

  @Test
  void modelsMustFitEachOther() {
    assertThrows(BertologyException.class, ModelReplicas::of);
    models.models().get(1).pruneHeads(Heads.parse("0:1"));
    BertologyException e =
        assertThrows(
            BertologyException.class,
            () -> ModelReplicas.of(models.models().toArray(new Model[0])));
    assertTrue(e.getMessage().contains("different shapes"), e.getMessage());
    models.models().get(1).restoreHeads();
    models.forEach(model -> model.pruneHeads(Heads.parse("0:1;2:3")));
    assertEquals(Heads.parse("0:1;2:3"), models.models().get(2).prunedHeads());
  }
}
