package org.bertology4j;

import static org.bertology4j.HeadImportance.Kind;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class HeadImportanceTest {
  /** All examples, so many a batch. */
  static List<Batch> batches(Golden golden, ModelConfig config, int size) {
    List<Batch> batches = new ArrayList<>();
    for (int first = 0; first < golden.examples(); first += size) {
      int last = Math.min(golden.examples(), first + size);
      batches.add(golden.batch(config, IntStream.range(first, last).toArray()));
    }
    return batches;
  }

  private static HeadImportance measure(Golden golden, Model model, int batchSize) {
    return measure(golden, ModelReplicas.of(model), batchSize);
  }

  private static HeadImportance measure(Golden golden, ModelReplicas models, int batchSize) {
    return HeadImportance.measure(
        models,
        batches(golden, models.first().config(), batchSize),
        new HeadImportance.Accumulator(models.first())
            .withEntropies()
            .withHf(batchSize)
            .withMaskedHeads(),
        run -> {});
  }

  private static void assertClose(double[][] expected, HeadScores actual, double relative) {
    assertWithin(relative * largest(expected), expected, actual);
  }

  private static double largest(double[][] scores) {
    return Arrays.stream(scores)
        .flatMapToDouble(Arrays::stream)
        .map(Math::abs)
        .filter(value -> !Double.isNaN(value))
        .max()
        .orElse(0);
  }

  private static void assertWithin(double bound, double[][] expected, HeadScores actual) {
    for (int l = 0; l < expected.length; l++) {
      for (int h = 0; h < expected[l].length; h++) {
        assertEquals(expected[l][h], actual.get(l, h), bound, "layer " + l + " head " + h);
      }
    }
  }

  /** By definition, from the reference's gradients of each example. */
  private static double[][] expected(Golden golden, ModelConfig config, Kind kind) {
    double[][] sums = new double[config.numHiddenLayers()][config.numAttentionHeads()];
    String name = kind == Kind.PER_TOKEN ? "token_head_gradients." : "head_gradients.";
    long tokens = 0;
    for (int b = 0; b < golden.examples(); b++) {
      double[] g = golden.doubles(name + b);
      tokens += golden.integers("input_ids." + b).length;
      for (int i = 0; i < g.length; i++) {
        sums[i / config.numAttentionHeads()][i % config.numAttentionHeads()] +=
            switch (kind) {
              case PAPER -> Math.abs(g[i]);
              case SQUARED -> g[i] * g[i];
              default -> g[i];
            };
      }
    }
    for (int l = 0; l < sums.length; l++) {
      boolean byToken = kind == Kind.PER_TOKEN && l < sums.length - 1;
      for (int h = 0; h < sums[l].length; h++) {
        sums[l][h] /= byToken ? tokens : golden.examples();
      }
    }
    return sums;
  }

  static Stream<String> labelled() {
    return Stream.of(Golden.ALL).filter(name -> !name.endsWith("encoder"));
  }

  @ParameterizedTest
  @MethodSource("labelled")
  void definitionsAgreeWithTheReferenceAtAnyBatchSize(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      for (int batchSize : new int[] {1, 2, 5}) {
        assertAgreesWithReference(golden, ModelReplicas.of(model), batchSize);
      }
    }
  }

  /** Under the mask that the golden numbers are for, which the models keep. */
  static void assertAgreesWithReference(Golden golden, ModelReplicas models, int batchSize) {
    ModelConfig config = models.first().config();
    if (config.prunedHeads().isEmpty()) {
      models.forEach(model -> model.maskHeads(golden.mask(config)));
    }
    HeadImportance importance = measure(golden, models, batchSize);
    for (Kind kind : new Kind[] {Kind.PAPER, Kind.PER_TOKEN, Kind.SIGNED, Kind.SQUARED}) {
      double[][] expected = expected(golden, config, kind);
      // Where gradients cancel out, what float32 loses of them does not.
      Kind scale = kind == Kind.SIGNED ? Kind.PAPER : kind;
      double bound = 1e-5 * largest(expected(golden, config, scale));
      for (Heads.Head head : config.prunedHeads().list()) {
        assertEquals(0, expected[head.layer()][head.head()]);
        expected[head.layer()][head.head()] = Double.NaN; // it has no score
      }
      assertWithin(bound, expected, importance.scores(kind));
    }
    assertEquals(golden.examples(), importance.examples());
    double loss = 0;
    for (int b = 0; b < golden.examples(); b++) {
      loss += golden.doubles("loss." + b)[0] / golden.examples();
    }
    assertEquals(loss, importance.meanLoss(), 2e-6 * Math.max(1, loss));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"classification", "masked_lm", "gpt2_lm", "gpt2_classification", "gpt_lm"})
  void hfReproducesRunBertologysAccumulation(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      for (int batchSize : new int[] {1, 2, 5}) {
        double[] flat = golden.doubles("run_bertology." + batchSize);
        int heads = model.config().numAttentionHeads();
        double[][] expected = new double[model.config().numHiddenLayers()][];
        for (int l = 0; l < expected.length; l++) {
          expected[l] = Arrays.copyOfRange(flat, l * heads, (l + 1) * heads);
        }
        assertClose(expected, measure(golden, model, batchSize).scores(Kind.HF), 1e-5);
      }
    }
  }

  @Test
  void entropyIsTheMeanOverAllTokens() {
    try (Golden golden = new Golden("classification");
        Model model = Model.load(golden.folder)) {
      HeadScores entropy = measure(golden, model, 2).entropy();
      for (int l = 0; l < 3; l++) {
        for (int h = 0; h < 4; h++) {
          double sum = 0;
          int tokens = 0;
          for (int b = 0; b < golden.examples(); b++) {
            double[] ofLayer = golden.doubles("attention_entropies." + l + "." + b);
            int n = ofLayer.length / 4;
            sum += Arrays.stream(ofLayer, h * n, (h + 1) * n).sum();
            tokens += n;
          }
          assertEquals(sum / tokens, entropy.get(l, h), 2e-6);
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"classification", "gpt2_lm", "gpt_lm"})
  void relativeEntropyIsThatOfTheTokensThatAreSeen(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      HeadScores relative = measure(golden, model, 2).relativeEntropy();
      for (int l = 0; l < 3; l++) {
        for (int h = 0; h < 4; h++) {
          double sum = 0;
          int tokens = 0;
          for (int b = 0; b < golden.examples(); b++) {
            double[] ofLayer = golden.doubles("attention_entropies." + l + "." + b);
            int n = ofLayer.length / 4;
            for (int i = 0; i < n; i++) {
              int seen = name.equals("classification") ? n : i + 1;
              if (seen > 1) {
                sum += ofLayer[h * n + i] / Math.log(seen);
                tokens++;
              }
            }
          }
          assertEquals(sum / tokens, relative.get(l, h), 2e-6);
          assertTrue(relative.get(l, h) > 0 && relative.get(l, h) <= 1);
        }
      }
    }
  }

  @Test
  void partsMergeToTheWhole() {
    try (Golden golden = new Golden("classification");
        Model model = Model.load(golden.folder)) {
      List<Batch> all = batches(golden, model.config(), 1);
      HeadImportance whole = measure(golden, model, 1);
      HeadImportance.Accumulator merged = null;
      for (int part = 0; part < 2; part++) {
        HeadImportance.Accumulator accumulator =
            new HeadImportance.Accumulator(model).withEntropies().withHf(1);
        HeadImportance.measure(
            model, part == 0 ? all.subList(0, 2) : all.subList(2, 5), accumulator, run -> {});
        if (merged == null) {
          merged = accumulator;
        } else {
          merged.merge(accumulator);
        }
      }
      HeadImportance result = merged.result();
      for (Kind kind : Kind.values()) {
        assertClose(whole.scores(kind).toArray(), result.scores(kind), 1e-12);
      }
      assertClose(whole.entropy().toArray(), result.entropy(), 1e-12);
      assertClose(whole.relativeEntropy().toArray(), result.relativeEntropy(), 1e-12);
      HeadImportance.Accumulator other = new HeadImportance.Accumulator(model);
      HeadImportance.Accumulator target = merged;
      assertThrows(BertologyException.class, () -> target.merge(other));
    }
  }

  @Test
  void prunedAndMaskedHeadsHaveNoScore() {
    try (Golden golden = new Golden("classification");
        Model model = Model.load(golden.folder)) {
      model.pruneHeads(Heads.parse("1:2"));
      model.maskHeads(HeadMask.without(Heads.parse("0:3"), model.config()));
      HeadImportance importance = HeadImportance.measure(model, batches(golden, model.config(), 5));
      HeadScores scores = importance.scores(Kind.PAPER);
      assertTrue(Double.isNaN(scores.get(1, 2)));
      assertTrue(Double.isNaN(scores.get(0, 3)));
      assertEquals(10, scores.ascending().size());
      assertEquals(-1, scores.ranks()[0][3]);
      assertEquals(
          0,
          importance.plan().removeLowest(1).heads().list().stream()
              .filter(head -> head.equals(new Heads.Head(1, 2)))
              .count());
      // run_bertology.py scores masked heads too.
      HeadImportance hf =
          HeadImportance.measure(
              model,
              batches(golden, model.config(), 5),
              new HeadImportance.Accumulator(model).withMaskedHeads(),
              run -> {});
      assertTrue(hf.scores(Kind.PAPER).get(0, 3) > 0);
      assertTrue(Double.isNaN(hf.scores(Kind.PAPER).get(1, 2)));
    }
  }

  @Test
  void needsExamplesAndLabels() {
    try (Golden golden = new Golden("classification");
        Model model = Model.load(golden.folder)) {
      BertologyException e =
          assertThrows(BertologyException.class, () -> HeadImportance.measure(model, List.of()));
      assertEquals(BertologyException.Kind.INVALID_ARGUMENT, e.kind());
      assertEquals("importance needs at least one example", e.getMessage());
      Batch unlabelled = Batch.of(new int[] {1, 2, 3});
      e =
          assertThrows(
              BertologyException.class, () -> HeadImportance.measure(model, List.of(unlabelled)));
      assertEquals(BertologyException.Kind.INVALID_ARGUMENT, e.kind());
      assertTrue(e.getMessage().contains("need labels"), e.getMessage());
    }
  }

  @Test
  void interruptKeepsWhatWasFinished() {
    try (Golden golden = new Golden("classification");
        Model model = Model.load(golden.folder)) {
      HeadImportance.Accumulator accumulator = new HeadImportance.Accumulator(model);
      List<Batch> all = batches(golden, model.config(), 1);
      BertologyException e =
          assertThrows(
              BertologyException.class,
              () ->
                  HeadImportance.measure(
                      model,
                      all,
                      accumulator,
                      run -> {
                        if (accumulator.examples() == 3) {
                          Thread.currentThread().interrupt();
                        }
                      }));
      assertTrue(Thread.interrupted());
      assertEquals(BertologyException.Kind.INTERRUPTED, e.kind());
      assertEquals(3, accumulator.examples());
      HeadImportance first = accumulator.result();
      HeadImportance.measure(model, all.subList(3, 5), accumulator, run -> {});
      assertEquals(3, first.examples(), "a result does not change any more");
      // The other pass shows entropies, for which the last layer computes all rows: it rounds a
      // little otherwise.
      assertClose(
          measure(golden, model, 1).scores(Kind.PAPER).toArray(),
          accumulator.result().scores(Kind.PAPER),
          1e-6);
    }
  }

  @Test
  void normalisation() {
    HeadScores scores = HeadScores.of(new double[][] {{3, 4, Double.NaN}, {0, 0, 0}, {-1, 1, 2}});
    HeadScores byLayer = scores.normalizedByLayer();
    assertEquals(0.6, byLayer.get(0, 0), 1e-15);
    assertEquals(0.8, byLayer.get(0, 1), 1e-15);
    assertTrue(Double.isNaN(byLayer.get(0, 2)));
    assertEquals(0, byLayer.get(1, 0));
    HeadScores globally = scores.normalizedGlobally();
    assertEquals(0, globally.get(2, 0));
    assertEquals(1, globally.get(0, 1));
    assertEquals(0.2, globally.get(1, 1), 1e-15);
    HeadScores equal = HeadScores.of(new double[][] {{5, 5}});
    assertEquals(0, equal.normalizedGlobally().get(0, 1));
    assertEquals(
        List.of(new Heads.Head(2, 0), new Heads.Head(1, 0), new Heads.Head(1, 1)),
        scores.ascending().subList(0, 3));
    assertEquals(0, scores.ranks()[0][1]);
    assertEquals(7, scores.ranks()[2][0]);
  }
}
