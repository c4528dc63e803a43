package org.bertology4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The gate for regressions. */
class CompareTest {
  @TempDir Path folder;

  private static Benchmark benchmark(String name, Measure measure, Double... values) {
    return new Benchmark(name, measure, Arrays.asList(values), List.of());
  }

  private Path file(String name, Benchmark... benchmarks) {
    Path file = folder.resolve(name);
    Results.of(List.of("a machine"), List.of(benchmarks), List.of()).write(file);
    return file;
  }

  private Path share(String name, Double... values) {
    return file(name, benchmark("forward", Measure.SHARE_OF_PEAK, values));
  }

  private Cli compare(Path baseline, Path results, Object... more) {
    Object[] arguments = {"compare", baseline, results};
    return Cli.run(Stream.concat(Arrays.stream(arguments), Arrays.stream(more)).toArray());
  }

  @Test
  void theSameResultsPass() {
    Path file = share("a.json", 0.80, 0.81, 0.82);
    assertTrue(compare(file, file).ends(0).out().contains("same"));
  }

  @Test
  void lessThanTheFloorIsNoise() {
    compare(share("a.json", 0.80), share("b.json", 0.77)).ends(0);
  }

  @Test
  void worseThanTheFloorFailsAndIsNamed() {
    Cli failed = compare(share("a.json", 0.80), share("b.json", 0.75)).ends(1);
    assertTrue(failed.out().contains("WORSE"), failed.out());
    assertEquals("bertology-benchmarks: forward is worse", failed.err().strip());
  }

  @Test
  void theFloorIsAnOption() {
    compare(share("a.json", 0.80), share("b.json", 0.75), "--noise", "0.1").ends(0);
    compare(share("a.json", 0.80), share("b.json", 0.79), "--noise", "0").ends(1);
  }

  @Test
  void betterPasses() {
    Cli passed = compare(share("a.json", 0.5), share("b.json", 0.8)).ends(0);
    assertTrue(passed.out().contains("better"), passed.out());
  }

  @Test
  void whatVariesMoreHasAWiderBand() {
    Path steady = share("a.json", 0.80, 0.80, 0.80, 0.80);
    Path varying = share("b.json", 0.60, 0.68, 0.76, 0.84);
    Path steadilyWorse = share("c.json", 0.72, 0.72, 0.72, 0.72);
    compare(steady, varying).ends(0);
    compare(steady, steadilyWorse).ends(1);
  }

  @Test
  void timesAreWorseWhenTheyGrow() {
    Path before = file("a.json", benchmark("load", Measure.PEAK_GFLOP, 10.0));
    Path after = file("b.json", benchmark("load", Measure.PEAK_GFLOP, 12.0));
    compare(before, after).ends(1);
    compare(after, before).ends(0);
  }

  @Test
  void aMissingBenchmarkFails() {
    Path baseline =
        file(
            "a.json",
            benchmark("forward", Measure.SHARE_OF_PEAK, 0.8),
            benchmark("importance", Measure.SHARE_OF_PEAK, 0.8));
    Cli failed = compare(baseline, share("b.json", 0.8)).ends(1);
    assertEquals("bertology-benchmarks: importance is missing", failed.err().strip());
  }

  @Test
  void anotherMeasureOfThatNameIsNoMatch() {
    compare(share("a.json", 0.8), file("b.json", benchmark("forward", Measure.PEAK_GFLOP, 0.8)))
        .ends(1);
  }

  @Test
  void newBenchmarksPass() {
    Path more =
        file(
            "b.json",
            benchmark("forward", Measure.SHARE_OF_PEAK, 0.8),
            benchmark("new", Measure.RATIO, 1.0));
    compare(share("a.json", 0.8), more).ends(0);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "no json",
        "[1, 2]",
        "{}",
        "{\"format\": \"bertology4j-benchmarks 1\"}",
        "{\"format\": \"bertology4j-benchmarks 9\", \"machine\": [], \"benchmarks\": [], \"rows\":"
            + " []}",
        "{\"format\": \"bertology4j-benchmarks 1\", \"machine\": [], \"rows\": [], \"benchmarks\":"
            + " [{\"name\": \"a\"}]}",
        "{\"format\": \"bertology4j-benchmarks 1\", \"machine\": [], \"rows\": [], \"benchmarks\":"
            + " [{\"name\": \"a\", \"measure\": \"RATIO\", \"values\": [], \"seconds\": []}]}",
        "{\"format\": \"bertology4j-benchmarks 1\", \"machine\": [], \"rows\": [], \"benchmarks\":"
            + " [{\"name\": \"a\", \"measure\": \"LOUD\", \"values\": [1], \"seconds\": []}]}",
      })
  void damagedFilesAreNamed(String content) throws IOException {
    Path damaged = Files.writeString(folder.resolve("damaged.json"), content);
    Path whole = share("a.json", 0.8);
    for (Cli failed : List.of(compare(whole, damaged), compare(damaged, whole))) {
      failed.ends(1);
      assertTrue(failed.err().contains("damaged.json is not a file of results: "), failed.err());
      assertEquals(1, failed.err().lines().count(), failed.err());
    }
  }

  @Test
  void aFileThatIsNotThereIsNamed() {
    Cli failed = compare(share("a.json", 0.8), folder.resolve("none.json")).ends(1);
    assertTrue(failed.err().contains("none.json: there is no such file"), failed.err());
  }

  @Test
  void wrongUsage() {
    Path file = share("a.json", 0.8);
    Cli.run("compare", file).ends(2);
    compare(file, file, "--noise", "-1").ends(2);
    compare(file, file, "--noise", "loud").ends(2);
    Cli.run().ends(2);
    Cli.run("peers", "--rounds", 0).ends(2);
    Cli.run("peers", "no such comparison").ends(2);
    Cli.run("jmh", "--iterations", 0).ends(2);
    Cli.run("jmh", "--param", "colour=red").ends(2);
  }
}
