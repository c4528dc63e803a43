package org.bertology4j.benchmarks;

import java.util.List;
import java.util.Optional;
import org.bertology4j.benchmarks.peers.Agreement;

/**
 * This library beside something else.
 *
 * @param name the comparison and what it is with
 * @param title what was done
 * @param other what it is compared with: a library's name and version, or what it is
 * @param measure what the values are
 * @param values of each round; empty if it did not run
 * @param ownSeconds of an example, of each round
 * @param otherSeconds of an example, of each round; empty where the other is not timed
 * @param agreement none, or one: whether both compute the same
 * @param notRun none, or one: why it did not run
 */
record Row(
    String name,
    String title,
    String other,
    String measure,
    List<Double> values,
    List<Double> ownSeconds,
    List<Double> otherSeconds,
    List<Agreement> agreement,
    List<String> notRun) {
  Row {
    values = List.copyOf(values);
    ownSeconds = List.copyOf(ownSeconds);
    otherSeconds = List.copyOf(otherSeconds);
    agreement = List.copyOf(agreement);
    notRun = List.copyOf(notRun);
  }

  static Row notRun(String name, String title, String other, String why) {
    return new Row(
        name, title, other, "", List.of(), List.of(), List.of(), List.of(), List.of(why));
  }

  boolean isWrong() {
    return agreement.stream().anyMatch(a -> !a.agrees());
  }

  /** What to make of it, for the table. */
  String verdict(Optional<Target> target) {
    if (!notRun.isEmpty()) {
      return "not run: " + notRun.get(0);
    }
    if (isWrong()) {
      return "WRONG: the outputs differ";
    }
    return target
        .map(t -> t.isReached(Spread.of(values).median()) ? "reached" : "MISSED")
        .orElse("");
  }
}
