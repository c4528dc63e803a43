package org.bertology4j;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.ToDoubleFunction;

/**
 * Removes growing fractions of the heads, least important first, and scores the model at each: the
 * experiment of Michel, Levy and Neubig 2019. The ranking is made once, or anew before each step
 * ({@code --exact_pruning} in their code). Immutable.
 */
public final class PruningSchedule {
  private final List<Double> fractions;
  private final boolean rerank;
  private final boolean inPlace;
  private final int floor;

  private PruningSchedule(List<Double> fractions, boolean rerank, boolean inPlace, int floor) {
    this.fractions = fractions;
    this.rerank = rerank;
    this.inPlace = inPlace;
    this.floor = floor;
  }

  /** A schedule of these fractions of the heads, ascending, each in (0, 1]. */
  public static PruningSchedule of(double... fractions) {
    List<Double> list = new ArrayList<>();
    double before = 0;
    for (double fraction : fractions) {
      BertologyException.check(
          fraction > before && fraction <= 1,
          "pruning schedule: fraction %s after %s; expected ascending, at most 1",
          fraction,
          before);
      list.add(fraction);
      before = fraction;
    }
    return new PruningSchedule(List.copyOf(list), false, false, 0);
  }

  /** Steps of this fraction up to all heads: {@code every(0.1)} is 10 %, 20 %, ... 100 %. */
  public static PruningSchedule every(double fraction) {
    BertologyException.check(
        fraction > 0 && fraction <= 1, "pruning schedule: steps of %s", fraction);
    int steps = (int) Math.floor(1 / fraction + 1e-9);
    double[] fractions = new double[steps];
    for (int i = 0; i < steps; i++) {
      fractions[i] = Math.min(1, (i + 1) * fraction);
    }
    return of(fractions);
  }

  /** The same, ranking the heads that are left anew before each step. */
  public PruningSchedule rerank() {
    return new PruningSchedule(fractions, true, inPlace, floor);
  }

  /** The same, pruning the model in place at each step instead of masking; it stays pruned. */
  public PruningSchedule inPlace() {
    return new PruningSchedule(fractions, rerank, true, floor);
  }

  /** The same, keeping at least this many heads of each layer. */
  public PruningSchedule keepAtLeast(int heads) {
    return new PruningSchedule(fractions, rerank, inPlace, heads);
  }

  /**
   * A fraction that was tried.
   *
   * @param fraction of the heads that the model had at the start
   * @param removed the heads that are gone
   * @param score without them
   */
  public record Step(double fraction, Heads removed, double score) {}

  /**
   * Removes heads in ascending order of the importance that the evaluator finds.
   *
   * @param model whose heads go
   * @param evaluator one pass over the data; when pruning in place it is called with the mask that
   *     the model has then
   * @param progress is shown each step
   * @return the steps; the first is the whole model, with fraction 0
   */
  public List<Step> run(Model model, Evaluation.Evaluator evaluator, Consumer<Step> progress) {
    Walk walk = new Walk(model, progress);
    Evaluation current = evaluator.evaluate(walk.start);
    walk.add(0, Heads.none(), current.score());
    List<Heads.Head> ranking = current.importance().ascending();
    int total = ranking.size();
    for (double fraction : fractions) {
      int wanted = PruningPlan.count(fraction, total);
      // Ranked anew, the heads already gone have no score any more; else they are the first of the
      // ranking.
      int more = rerank ? Math.max(0, wanted - walk.removed.size()) : wanted;
      Heads chosen =
          PruningPlan.inOrder(ranking)
              .remove(Math.min(more, ranking.size()))
              .keepAtLeast(floor)
              .heads();
      Heads removed = walk.removed.plus(chosen);
      current = evaluator.evaluate(walk.without(removed));
      if (rerank) {
        ranking = current.importance().ascending();
      }
      walk.add(fraction, removed, current.score());
    }
    return List.copyOf(walk.steps);
  }

  /**
   * Removes heads in the order of a plan, whatever fraction the plan itself removes.
   *
   * @param model whose heads go
   * @param score one pass over the data for a mask
   * @param progress is shown each step
   * @return the steps; the first is the whole model, with fraction 0
   */
  public List<Step> follow(
      Model model, PruningPlan plan, ToDoubleFunction<HeadMask> score, Consumer<Step> progress) {
    Walk walk = new Walk(model, progress);
    walk.add(0, Heads.none(), score.applyAsDouble(walk.start));
    for (double fraction : fractions) {
      Heads removed = plan.removeLowest(fraction).keepAtLeast(floor).heads();
      walk.add(fraction, removed, score.applyAsDouble(walk.without(removed)));
    }
    return List.copyOf(walk.steps);
  }

  /**
   * The same for several plans at once, and all masks in one sweep.
   *
   * @param sweep scores the model, whose own mask stays; pruning in place is no sweep
   * @return the steps of each plan
   */
  public List<List<Step>> sweep(List<PruningPlan> plans, MaskSweep sweep) {
    BertologyException.check(!plans.isEmpty(), "a sweep needs at least one plan");
    BertologyException.check(
        !inPlace && !rerank, "a sweep masks heads, in the order of its plans: not in place");
    Walk walk = new Walk(sweep.model(), step -> {});
    List<HeadMask> masks = new ArrayList<>(List.of(walk.start));
    List<Heads> removed = new ArrayList<>();
    for (PruningPlan plan : plans) {
      for (double fraction : fractions) {
        removed.add(plan.removeLowest(fraction).keepAtLeast(floor).heads());
        masks.add(walk.without(removed.get(removed.size() - 1)));
      }
    }
    double[] scores = sweep.scores(masks);
    List<List<Step>> steps = new ArrayList<>();
    for (int p = 0; p < plans.size(); p++) {
      List<Step> ofPlan = new ArrayList<>(List.of(new Step(0, Heads.none(), scores[0])));
      for (int f = 0; f < fractions.size(); f++) {
        int place = p * fractions.size() + f;
        ofPlan.add(new Step(fractions.get(f), removed.get(place), scores[1 + place]));
      }
      steps.add(List.copyOf(ofPlan));
    }
    return List.copyOf(steps);
  }

  /** The steps so far. */
  private final class Walk {
    final Model model;
    final HeadMask start;
    final List<Step> steps = new ArrayList<>();
    final Consumer<Step> progress;
    Heads removed = Heads.none();

    Walk(Model model, Consumer<Step> progress) {
      this.model = model;
      this.start = model.headMask();
      this.progress = progress;
    }

    /** Takes these heads away, which are those already gone and more; the mask to score with. */
    HeadMask without(Heads heads) {
      if (inPlace) {
        model.pruneHeads(heads.minus(removed));
        return model.headMask();
      }
      HeadMask mask = start;
      for (Heads.Head head : heads.list()) {
        mask = mask.with(head.layer(), head.head(), 0f);
      }
      return mask;
    }

    void add(double fraction, Heads heads, double score) {
      removed = heads;
      Step step = new Step(fraction, heads, score);
      steps.add(step);
      progress.accept(step);
    }
  }
}
