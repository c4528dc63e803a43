package org.bertology4j.benchmarks;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Whether results are worse than a baseline by more than noise: what a build can be made to fail
 * on.
 */
final class Gate {
  /** How a benchmark fares against its baseline. */
  enum Outcome {
    /** Within the noise. */
    SAME("same"),
    /** Better by more than the noise. */
    BETTER("better"),
    /** Worse by more than the noise. */
    WORSE("WORSE"),
    /** The baseline has it, the results have not, or measure something else under its name. */
    MISSING("MISSING");

    private final String text;

    Outcome(String text) {
      this.text = text;
    }

    boolean fails() {
      return this == WORSE || this == MISSING;
    }

    @Override
    public String toString() {
      return text;
    }
  }

  /**
   * A benchmark against its baseline.
   *
   * @param change of the median, relative to the baseline's; negative for the worse
   * @param band how large a change is noise
   */
  record Verdict(String name, Outcome outcome, double change, double band) {}

  private Gate() {}

  /**
   * A verdict for each benchmark of the baseline. A change counts if it is larger than the floor
   * and than half the distances between the quartiles of both.
   */
  static List<Verdict> verdicts(Results baseline, Results results, double floor) {
    Map<String, Benchmark> found = new HashMap<>();
    results.benchmarks().forEach(benchmark -> found.put(benchmark.name(), benchmark));
    List<Verdict> verdicts = new ArrayList<>();
    for (Benchmark expected : baseline.benchmarks()) {
      Benchmark actual = found.get(expected.name());
      verdicts.add(
          actual == null || actual.measure() != expected.measure()
              ? new Verdict(expected.name(), Outcome.MISSING, 0, floor)
              : verdict(expected, actual, floor));
    }
    return verdicts;
  }

  private static Verdict verdict(Benchmark expected, Benchmark actual, double floor) {
    Spread before = expected.spread();
    Spread now = actual.spread();
    double ratio =
        expected.measure().higherIsBetter()
            ? now.median() / before.median()
            : before.median() / now.median();
    double change = ratio - 1;
    double band = Math.max(floor, before.noise() + now.noise());
    Outcome outcome =
        change < -band ? Outcome.WORSE : change > band ? Outcome.BETTER : Outcome.SAME;
    return new Verdict(expected.name(), outcome, change, band);
  }
}
