package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import org.bertology4j.HeadAblation.Kind;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Ablations and pruning curves by sweeps, against passes with one mask each. */
class HeadAblationTest {

  private static double alone(Model model, List<Batch> batches, HeadMask mask) {
    return MaskSweep.of(model, batches, MaskScorer.meanLoss()).scores(List.of(mask))[0];
  }

  @ParameterizedTest
  @ValueSource(strings = {"classification", "pruned", "gpt2_lm"})
  void changesAreThoseOfEachHeadAlone(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      List<Batch> batches = HeadImportanceTest.batches(golden, model.config(), 2);
      HeadMask own = HeadMask.ones(model.config()).with(0, model.heads(0).get(0), 0f);
      model.maskHeads(own);
      MaskSweep sweep = MaskSweep.of(model, batches, MaskScorer.meanLoss());
      HeadAblation.Result single = HeadAblation.measure(sweep, Kind.SINGLE_HEAD);
      HeadAblation.Result only = HeadAblation.measure(sweep, Kind.ALL_BUT_ONE);
      double whole = alone(model, batches, own);
      assertEquals(whole, single.whole());
      assertEquals(whole, only.whole());
      assertFalse(single.higherIsBetter());
      for (int l = 0; l < own.layers(); l++) {
        for (int h = 0; h < own.heads(); h++) {
          if (!model.heads(l).contains(h) || own.get(l, h) == 0f) {
            assertFalse(single.scores().has(l, h));
            assertFalse(only.changes().has(l, h));
            continue;
          }
          double without = alone(model, batches, own.with(l, h, 0f));
          assertEquals(without, single.scores().get(l, h));
          assertEquals(without - whole, single.changes().get(l, h));
          HeadMask one = own;
          for (int other : model.heads(l)) {
            one = other == h ? one : one.with(l, other, 0f);
          }
          assertEquals(alone(model, batches, one), only.scores().get(l, h));
        }
      }
      for (Heads.Head best : only.best()) {
        for (int h : model.heads(best.layer())) {
          assertFalse(
              only.scores().get(best.layer(), h) < only.scores().get(best.layer(), best.head()));
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"classification", "gpt2_lm"})
  void curvesAreThoseOfSinglePasses(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      List<Batch> batches = HeadImportanceTest.batches(golden, model.config(), 2);
      PruningSchedule schedule = PruningSchedule.every(0.25).keepAtLeast(1);
      List<PruningPlan> plans = new ArrayList<>();
      for (int seed = 0; seed < 3; seed++) {
        plans.add(PruningPlan.random(model, seed));
      }
      MaskSweep sweep = MaskSweep.of(model, batches, MaskScorer.meanLoss());
      List<List<PruningSchedule.Step>> curves = schedule.sweep(plans, sweep);
      for (int i = 0; i < plans.size(); i++) {
        assertEquals(
            schedule.follow(model, plans.get(i), mask -> alone(model, batches, mask), step -> {}),
            curves.get(i));
      }
      assertTrue(
          assertThrows(BertologyException.class, () -> schedule.inPlace().sweep(plans, sweep))
              .getMessage()
              .contains("not in place"));
    }
  }
}
