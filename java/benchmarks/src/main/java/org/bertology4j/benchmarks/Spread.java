package org.bertology4j.benchmarks;

import java.util.List;
import java.util.Locale;
import org.apache.commons.math3.stat.descriptive.DescriptiveStatistics;

/**
 * The numbers of several rounds.
 *
 * @param quartiles the distance between the first and the third quartile
 */
record Spread(double median, double least, double greatest, double quartiles) {
  static Spread of(List<Double> values) {
    DescriptiveStatistics statistics =
        new DescriptiveStatistics(values.stream().mapToDouble(Double::doubleValue).toArray());
    return new Spread(
        statistics.getPercentile(50),
        statistics.getMin(),
        statistics.getMax(),
        statistics.getPercentile(75) - statistics.getPercentile(25));
  }

  /** Half the distance between the quartiles, relative to the median. */
  double noise() {
    return median == 0 ? 0 : quartiles / 2 / Math.abs(median);
  }

  /** Such as {@code 0.84 (0.79-0.85)}. */
  @Override
  public String toString() {
    return number(median) + " (" + number(least) + "–" + number(greatest) + ")";
  }

  /** Three digits that count. */
  static String number(double value) {
    double size = Math.abs(value);
    int decimals = size >= 100 || size == 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
    return size != 0 && size < 0.01
        ? String.format(Locale.ROOT, "%.2e", value)
        : String.format(Locale.ROOT, "%." + decimals + "f", value);
  }
}
