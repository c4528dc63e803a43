package org.bertology4j.benchmarks.jmh;

import java.util.Collection;
import java.util.List;
import org.bertology4j.DType;
import org.bertology4j.Device;
import org.openjdk.jmh.infra.BenchmarkParams;
import org.openjdk.jmh.infra.IterationParams;
import org.openjdk.jmh.profile.InternalProfiler;
import org.openjdk.jmh.results.AggregationPolicy;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.ScalarResult;

/** Measures the machine's matrix products before each iteration, to which its time is related. */
public final class PeakProfiler implements InternalProfiler {
  /** The name of its result, in floating-point operations per second. */
  public static final String PEAK = "peak";

  private static final double SECONDS = 0.2;

  private double peak;

  /** Made by JMH. */
  public PeakProfiler() {}

  @Override
  public String getDescription() {
    return "the machine's matrix-product peak";
  }

  @Override
  public void beforeIteration(BenchmarkParams benchmark, IterationParams iteration) {
    DType dtype =
        benchmark.getParamsKeys().contains("dtype")
            ? DType.parse(benchmark.getParam("dtype"))
            : DType.FLOAT32;
    try (Device device = Device.open("cpu", Subjects.threads())) {
      peak = device.matrixPeak(dtype, SECONDS);
    }
  }

  @Override
  public Collection<? extends Result> afterIteration(
      BenchmarkParams benchmark, IterationParams iteration, IterationResult result) {
    return List.of(new ScalarResult(PEAK, peak, "FLOP/s", AggregationPolicy.AVG));
  }
}
