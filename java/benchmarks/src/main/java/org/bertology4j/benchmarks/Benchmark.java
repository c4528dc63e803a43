package org.bertology4j.benchmarks;

import java.util.List;
import java.util.stream.IntStream;

/**
 * A benchmark's numbers, one of each round.
 *
 * @param seconds how long it took, for people to read; empty where it was not a matter of time
 */
record Benchmark(String name, Measure measure, List<Double> values, List<Double> seconds) {
  Benchmark {
    values = List.copyOf(values);
    seconds = List.copyOf(seconds);
  }

  /** Of work whose floating-point operations are known. */
  static Benchmark ofWork(String name, double flops, List<Double> seconds, List<Double> peaks) {
    List<Double> shares =
        IntStream.range(0, seconds.size())
            .mapToObj(i -> flops / seconds.get(i) / peaks.get(i))
            .toList();
    return new Benchmark(name, Measure.SHARE_OF_PEAK, shares, seconds);
  }

  /** Of anything else that takes time. */
  static Benchmark ofTime(String name, List<Double> seconds, List<Double> peaks) {
    List<Double> meanwhile =
        IntStream.range(0, seconds.size())
            .mapToObj(i -> seconds.get(i) * peaks.get(i) * 1e-9)
            .toList();
    return new Benchmark(name, Measure.PEAK_GFLOP, meanwhile, seconds);
  }

  Spread spread() {
    return Spread.of(values);
  }
}
