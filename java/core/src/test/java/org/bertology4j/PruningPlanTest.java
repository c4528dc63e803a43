package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

class PruningPlanTest {
  private static final HeadScores SCORES =
      HeadScores.of(new double[][] {{1, 2, 3, 4}, {10, 20, 30, 40}, {5, 6, 7, 100}});

  @Test
  void lowestGoFirst() {
    PruningPlan plan = SCORES.plan();
    assertEquals("", plan.heads().toString());
    assertEquals("0:0,1,2,3", plan.removeLowest(1.0 / 3).heads().toString());
    assertEquals("0:0,1,2,3;2:0", plan.remove(5).heads().toString());
    assertEquals("2:3", plan.reversed().remove(1).heads().toString());
    assertEquals(12, plan.removeLowest(1).heads().size());
    assertEquals(8, plan.removeLowest(0.7).heads().size());
  }

  @Test
  void eachLayerKeepsItsFloor() {
    assertEquals(
        "0:0,1,2;2:0", SCORES.plan().removeLowest(1.0 / 3).keepAtLeast(1).heads().toString());
    assertEquals(
        "0:0,1;1:0,1;2:0,1", SCORES.plan().removeLowest(1).keepAtLeast(2).heads().toString());
    assertEquals("", SCORES.plan().removeLowest(1).keepAtLeast(4).heads().toString());
  }

  @Test
  void eachLayerGivesItsPart() {
    assertEquals(
        "0:0,1;1:0,1;2:0,1", SCORES.plan().removeLowestOfEachLayer(0.5).heads().toString());
    assertEquals(
        "0:0;1:0;2:0",
        SCORES.plan().removeLowestOfEachLayer(0.75).keepAtLeast(3).heads().toString());
  }

  @Test
  void explicitPlansAndMasks() {
    Heads heads = Heads.parse("0:1,3;2:5");
    assertEquals(heads, PruningPlan.of(heads).heads());
    try (Model model = Model.load(Golden.folder("classification"))) {
      HeadMask mask = SCORES.plan().remove(2).mask(model.config());
      assertEquals(Heads.parse("0:0,1"), mask.masked());
      assertThrows(BertologyException.class, () -> PruningPlan.of(heads).mask(model.config()));
    }
  }

  @Test
  void randomPlansAreReproducible() {
    try (Model model = Model.load(Golden.folder("pruned"))) {
      PruningPlan plan = PruningPlan.random(model, 7);
      assertEquals(8, plan.order().size(), "only heads that are there");
      assertEquals(plan.order(), PruningPlan.random(model, 7).order());
      assertNotEquals(plan.order(), PruningPlan.random(model, 8).order());
    }
  }

  private static void assertInvalid(String text, Executable call) {
    BertologyException e = assertThrows(BertologyException.class, call, text);
    assertEquals(BertologyException.Kind.INVALID_ARGUMENT, e.kind());
    assertTrue(e.getMessage().contains(text), e.getMessage());
  }

  @Test
  void badPlansAreRefused() {
    PruningPlan plan = SCORES.plan();
    assertInvalid("fraction 1.1 of the heads: expected 0 to 1", () -> plan.removeLowest(1.1));
    assertInvalid("fraction -0.1", () -> plan.removeLowest(-0.1));
    assertInvalid("fraction NaN", () -> plan.removeLowest(Double.NaN));
    assertInvalid("remove 13 heads of 12", () -> plan.remove(13));
    assertInvalid("keep at least -1 heads", () -> plan.keepAtLeast(-1));
    assertInvalid("fraction 2.0", () -> plan.removeLowestOfEachLayer(2));
  }

  @Test
  void headsAsText() {
    assertEquals("0:1,3;2:5", Heads.parse(" 2:5 ; 0:3, 1").toString());
    assertTrue(Heads.parse("").isEmpty());
    Map<String, String> refused =
        Map.of(
            "0", "\"0\" is not layer:head,head",
            "0:1:2", "\"0:1:2\" is not layer:head,head",
            "0:", "\"\" is not a number",
            "a:1", "\"a\" is not a number",
            "0:1.5", "\"1.5\" is not a number",
            "0:1;0:1", "head 1 of layer 0 is named twice",
            "0:1,1", "head 1 of layer 0 is named twice",
            "-1:0", "head 0 of layer -1: numbers count from 0",
            "0:-1", "head -1 of layer 0: numbers count from 0");
    refused.forEach((bad, text) -> assertInvalid(text, () -> Heads.parse(bad)));
    Heads.Head head = new Heads.Head(0, 1);
    assertInvalid(
        "head 1 of layer 0 is named twice", () -> PruningPlan.inOrder(List.of(head, head)));
    Heads heads = Heads.parse("0:1,3;2:5");
    assertEquals(Heads.parse("0:1,2,3;2:5"), heads.plus(Heads.parse("0:2,3")));
    assertEquals(Heads.parse("0:1"), heads.minus(Heads.parse("0:3;2:5;7:7")));
  }

  /** A model whose score falls as heads of large number go. */
  private static Evaluation evaluate(HeadMask mask, double best) {
    double[][] importance = new double[mask.layers()][mask.heads()];
    double score = best;
    for (int l = 0; l < mask.layers(); l++) {
      for (int h = 0; h < mask.heads(); h++) {
        boolean masked = mask.get(l, h) == 0;
        importance[l][h] = masked ? Double.NaN : l * mask.heads() + h;
        score -= masked ? 0.01 * (l * mask.heads() + h) : 0;
      }
    }
    return new Evaluation(score, HeadScores.of(importance));
  }

  @Test
  void maskingSearchStopsAtTheThreshold() {
    List<MaskingSearch.Step> shown = new ArrayList<>();
    MaskingSearch.Result result =
        new MaskingSearch(0.89, 0.1)
            .run(HeadMask.ones(2, 5), mask -> evaluate(mask, 1), shown::add);
    // 0 + 1 + 2 + 3 + 4 hundredths may go, 5 more may not.
    assertEquals(Heads.parse("0:0,1,2,3,4"), result.mask().masked());
    assertEquals(0.9, result.score(), 1e-12);
    assertEquals(1, result.originalScore());
    assertEquals(6, shown.size());
    assertEquals(
        List.of(true, true, true, true, true, false),
        shown.stream().map(MaskingSearch.Step::kept).toList());
  }

  @Test
  void maskingSearchEndsForAConstantScore() {
    for (double score : new double[] {1, 0, -0.5}) {
      MaskingSearch.Result result =
          new MaskingSearch(0.9, 0.3)
              .run(
                  HeadMask.ones(2, 5),
                  mask -> new Evaluation(score, evaluate(mask, 1).importance()),
                  step -> {});
      // Three at a time of ten; the last head is never masked.
      assertEquals(9, result.mask().masked().size(), "score " + score);
    }
  }

  @Test
  void maskingSearchEndsIfMaskedHeadsAreScored() {
    double[][] all = {{1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}};
    MaskingSearch.Result result =
        new MaskingSearch(0.9, 0.1)
            .run(HeadMask.ones(2, 5), mask -> new Evaluation(1, HeadScores.of(all)), step -> {});
    assertEquals(Heads.parse("0:0,1,2,3,4;1:0,1,2,3"), result.mask().masked());
    assertEquals(9, result.steps().size());
  }

  @Test
  void normalisationGivesNoScoreToHeadsWithoutOne() {
    double[][] one = {{Double.NaN, 3, Double.NaN}, {-2, Double.NaN, Double.NaN}};
    HeadScores equal = HeadScores.of(one).normalizedByLayer().normalizedGlobally();
    assertEquals(List.of(new Heads.Head(1, 0), new Heads.Head(0, 1)), equal.ascending());
    double[][] same = {{Double.NaN, 3, Double.NaN}, {3, Double.NaN, 3}};
    HeadScores zeros = HeadScores.of(same).normalizedGlobally();
    assertEquals(3, zeros.ascending().size());
    assertEquals(0, zeros.get(1, 2));
    assertTrue(Double.isNaN(zeros.get(1, 1)));
  }

  @Test
  void maskingSearchAllowsForScoresBelowZero() {
    MaskingSearch.Result result =
        new MaskingSearch(0.5, 0.1)
            .run(HeadMask.ones(2, 5), mask -> evaluate(mask, -0.1), step -> {});
    // Half of 0.1 may go: 0 + 1 + 2 hundredths, then 3 more would be 6.
    assertEquals(Heads.parse("0:0,1,2"), result.mask().masked());
  }

  @Test
  void maskingSearchChecksItsNumbers() {
    for (double threshold : new double[] {0, 1, -1, Double.NaN}) {
      assertThrows(BertologyException.class, () -> new MaskingSearch(threshold, 0.1));
    }
    for (double amount : new double[] {0, 1.5, Double.NaN}) {
      assertThrows(BertologyException.class, () -> new MaskingSearch(0.9, amount));
    }
  }

  @Test
  void schedulesRemoveGrowingFractions() {
    for (boolean rerank : new boolean[] {false, true}) {
      for (boolean inPlace : new boolean[] {false, true}) {
        try (Model model = Model.load(Golden.folder("classification"))) {
          PruningSchedule schedule = PruningSchedule.every(0.25);
          if (rerank) {
            schedule = schedule.rerank();
          }
          if (inPlace) {
            schedule = schedule.inPlace();
          }
          Evaluation.Evaluator evaluator =
              mask -> {
                HeadMask gone = mask;
                for (Heads.Head head : model.prunedHeads().list()) {
                  gone = gone.with(head.layer(), head.head(), 0);
                }
                return evaluate(gone, 1);
              };
          List<PruningSchedule.Step> steps = schedule.run(model, evaluator, step -> {});
          assertEquals(5, steps.size());
          assertEquals(Heads.none(), steps.get(0).removed());
          assertEquals(Heads.parse("0:0,1,2"), steps.get(1).removed());
          assertEquals(Heads.parse("0:0,1,2,3;1:0,1"), steps.get(2).removed());
          assertEquals(1 - 0.15, steps.get(2).score(), 1e-12);
          assertEquals(12, steps.get(4).removed().size());
          assertEquals(inPlace ? 12 : 0, model.prunedHeads().size());
        }
      }
    }
  }

  @Test
  void schedulesKeepAFloorAndRankAnew() {
    try (Model model = Model.load(Golden.folder("classification"))) {
      List<PruningSchedule.Step> steps =
          PruningSchedule.of(0.5, 1).keepAtLeast(1).run(model, mask -> evaluate(mask, 1), s -> {});
      assertEquals(Heads.parse("0:0,1,2;1:0,1,2"), steps.get(1).removed());
      assertEquals(Heads.parse("0:0,1,2;1:0,1,2;2:0,1,2"), steps.get(2).removed());
      // The ranking turns round once something is masked.
      Evaluation.Evaluator turning =
          mask -> {
            Evaluation evaluation = evaluate(mask, 1);
            double[][] scores = evaluation.importance().toArray();
            for (double[] layer : scores) {
              for (int h = 0; h < layer.length && !mask.isOnes(); h++) {
                layer[h] = -layer[h];
              }
            }
            return new Evaluation(evaluation.score(), HeadScores.of(scores));
          };
      steps = PruningSchedule.of(0.25, 0.5).rerank().run(model, turning, s -> {});
      assertEquals(Heads.parse("0:0,1,2;2:1,2,3"), steps.get(2).removed());
      steps = PruningSchedule.of(0.25, 0.5).run(model, turning, s -> {});
      assertEquals(Heads.parse("0:0,1,2,3;1:0,1"), steps.get(2).removed());
      assertThrows(BertologyException.class, () -> PruningSchedule.of(0.5, 0.5));
      assertThrows(BertologyException.class, () -> PruningSchedule.of(1.5));
    }
  }
}
