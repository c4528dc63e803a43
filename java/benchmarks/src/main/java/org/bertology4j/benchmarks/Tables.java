package org.bertology4j.benchmarks;

import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Results as Markdown. */
final class Tables {
  private Tables() {}

  static String of(Results results) {
    StringBuilder text = new StringBuilder();
    results.machine().forEach(line -> text.append("- ").append(line).append('\n'));
    if (!results.rows().isEmpty()) {
      rows(text, results.rows());
    }
    if (!results.benchmarks().isEmpty()) {
      benchmarks(text, results.benchmarks());
    }
    return text.toString();
  }

  private static void rows(StringBuilder text, List<Row> rows) {
    Map<String, Target> targets = Target.all();
    line(text.append('\n'), "row", "what", "with", "ms", "its ms", "result", "target", "outputs");
    line(text, "---", "---", "---", "---", "---", "---", "---", "---");
    for (Row row : rows) {
      Optional<Target> target = Optional.ofNullable(targets.get(row.name()));
      String result = row.values().isEmpty() ? "" : Spread.of(row.values()) + " " + row.measure();
      line(
          text,
          row.name(),
          row.title(),
          row.other(),
          milliseconds(row.ownSeconds()),
          milliseconds(row.otherSeconds()),
          result,
          (target.map(Target::toString).orElse("") + " " + row.verdict(target)).strip(),
          row.agreement().stream().findFirst().map(Object::toString).orElse(""));
    }
    text.append(
        "\nMedians of the rounds, the least and the greatest in brackets; milliseconds are of one"
            + " example. Ratios are of times in the same round: above 1, this library is"
            + " faster.\n");
  }

  private static void benchmarks(StringBuilder text, List<Benchmark> benchmarks) {
    line(text.append('\n'), "benchmark", "ms", "relative to the machine", "measure");
    line(text, "---", "---", "---", "---");
    for (Benchmark benchmark : benchmarks) {
      line(
          text,
          benchmark.name(),
          milliseconds(benchmark.seconds()),
          benchmark.spread().toString(),
          benchmark.measure().toString());
    }
  }

  private static String milliseconds(List<Double> seconds) {
    return seconds.isEmpty()
        ? ""
        : Spread.of(seconds.stream().map(s -> s * 1e3).toList()).toString();
  }

  private static void line(StringBuilder text, String... cells) {
    for (String cell : cells) {
      text.append("| ").append(cell.replace("|", "\\|").replaceAll("\\s*\\R\\s*", " ")).append(' ');
    }
    text.append("|\n");
  }
}
