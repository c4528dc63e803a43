package org.bertology4j.cli;

import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;
import org.bertology4j.HeadMask;
import org.bertology4j.HeadScores;
import org.bertology4j.MaskSweep;
import org.bertology4j.Model;
import org.bertology4j.PruningPlan;
import org.bertology4j.PruningSchedule;

/** Scores by fraction of heads removed, for several orders of removal. */
final class PruningCurves {
  private static final double[] FRACTIONS = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8};
  private static final int RANDOM_ORDERS = 5;

  private final List<Double> fractions;
  private final List<Curve> curves = new ArrayList<>();

  /**
   * The scores of one order.
   *
   * @param means the score at each fraction, the mean where the order was drawn several times
   * @param least the least of them
   * @param greatest the greatest of them
   */
  record Curve(String name, List<Double> means, List<Double> least, List<Double> greatest) {}

  /** Curves over 0 and these fractions. */
  PruningCurves(double... fractions) {
    List<Double> all = new ArrayList<>(List.of(0.0));
    for (double fraction : fractions) {
      all.add(fraction);
    }
    this.fractions = List.copyOf(all);
  }

  /**
   * Removes heads in three orders: least important first, at random, and most important first.
   *
   * @param seed of the first of the random orders
   * @param score of the model under a mask
   */
  static PruningCurves ofThreeOrders(
      Model model, HeadScores scores, long seed, ToDoubleFunction<HeadMask> score) {
    PruningCurves curves = new PruningCurves(FRACTIONS);
    curves.add("least important first", List.of(follow(model, scores.plan(), score)));
    List<List<PruningSchedule.Step>> random = new ArrayList<>();
    for (int i = 0; i < RANDOM_ORDERS; i++) {
      random.add(follow(model, PruningPlan.random(model, seed + i), score));
    }
    curves.add("random, seed " + seed, List.of(random.get(0)));
    curves.add("random, mean of " + RANDOM_ORDERS + " seeds", random);
    curves.add("most important first", List.of(follow(model, scores.plan().reversed(), score)));
    return curves;
  }

  /**
   * The same in one sweep over all masks: heads are masked, not pruned.
   *
   * @param scores by which heads are ordered
   */
  static PruningCurves ofThreeOrders(MaskSweep sweep, HeadScores scores, long seed) {
    List<PruningPlan> plans = new ArrayList<>(List.of(scores.plan(), scores.plan().reversed()));
    for (int i = 0; i < RANDOM_ORDERS; i++) {
      plans.add(PruningPlan.random(sweep.model(), seed + i));
    }
    List<List<PruningSchedule.Step>> steps = PruningSchedule.of(FRACTIONS).sweep(plans, sweep);
    List<List<PruningSchedule.Step>> random = steps.subList(2, steps.size());
    PruningCurves curves = new PruningCurves(FRACTIONS);
    curves.add("least important first", steps.subList(0, 1));
    curves.add("random, seed " + seed, random.subList(0, 1));
    curves.add("random, mean of " + RANDOM_ORDERS + " seeds", random);
    curves.add("most important first", steps.subList(1, 2));
    return curves;
  }

  private static List<PruningSchedule.Step> follow(
      Model model, PruningPlan plan, ToDoubleFunction<HeadMask> score) {
    List<PruningSchedule.Step> steps =
        PruningSchedule.of(FRACTIONS).inPlace().follow(model, plan, score, step -> {});
    model.restoreHeads();
    return steps;
  }

  /** Adds an order, run once or several times. */
  void add(String name, List<List<PruningSchedule.Step>> runs) {
    List<Double> means = new ArrayList<>();
    List<Double> least = new ArrayList<>();
    List<Double> greatest = new ArrayList<>();
    for (int i = 0; i < fractions.size(); i++) {
      int place = i;
      double[] scores = runs.stream().mapToDouble(run -> run.get(place).score()).toArray();
      means.add(java.util.Arrays.stream(scores).average().orElseThrow());
      least.add(java.util.Arrays.stream(scores).min().orElseThrow());
      greatest.add(java.util.Arrays.stream(scores).max().orElseThrow());
    }
    curves.add(new Curve(name, means, least, greatest));
  }

  List<Double> fractions() {
    return fractions;
  }

  List<Curve> curves() {
    return List.copyOf(curves);
  }

  /** The score at each fraction, by the name of the order. */
  Map<String, Object> means() {
    Map<String, Object> byOrder = new LinkedHashMap<>();
    curves.forEach(curve -> byOrder.put(curve.name(), curve.means()));
    return byOrder;
  }

  void print(PrintWriter out, String title) {
    int width = curves.stream().mapToInt(curve -> curve.name().length()).max().orElse(0);
    out.println(title);
    StringBuilder line = new StringBuilder(" ".repeat(width));
    fractions.forEach(
        fraction -> line.append(String.format(Locale.ROOT, "%7.0f %%", 100 * fraction)));
    out.println(line);
    for (Curve curve : curves) {
      out.print(curve.name() + " ".repeat(width - curve.name().length()));
      IntStream.range(0, fractions.size())
          .forEach(i -> out.print(String.format(Locale.ROOT, "%9.3f", curve.means().get(i))));
      out.println();
    }
    out.println();
  }
}
