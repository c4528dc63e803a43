package org.bertology4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A run by JMH, in this virtual machine. */
class JmhTest {
  @TempDir Path folder;

  @Test
  void iterationsAreRelatedToThePeak() {
    Cli.run("jmh", "--quick", "--forks", 0, "--output", folder, "CallBenchmark.call").ends(0);
    Benchmark call = Results.read(folder.resolve("results.json")).benchmark("CallBenchmark.call[]");
    assertEquals(Measure.PEAK_GFLOP, call.measure());
    assertEquals(2, call.values().size());
    assertTrue(call.values().stream().allMatch(value -> value > 0));
  }

  @Test
  void nothingOfThatNameIsAFailure() {
    Cli.run("jmh", "--quick", "--forks", 0, "--output", folder, "NoSuchBenchmark").ends(1);
  }
}
