package org.bertology4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.bertology4j.benchmarks.peers.Agreement;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The whole run, on a tiny model, without other libraries. */
class PeersTest {
  @TempDir Path folder;

  @Test
  void everyComparisonRunsOnATinyModel() throws IOException {
    Cli.run(
            "peers",
            "--tiny",
            "--quick",
            "--rounds",
            2,
            "--python",
            "/no/python",
            "--output",
            folder)
        .ends(0);
    Results results = Results.read(folder.resolve("results.json"));
    for (Comparison comparison : new Comparisons(true).all()) {
      if (results.rows().stream().anyMatch(row -> isSkipped(row, comparison.name()))) {
        continue; // bfloat16 on a processor without it
      }
      Benchmark benchmark = results.benchmark(comparison.name());
      assertEquals(2, benchmark.values().size(), comparison.name());
      for (double value : benchmark.values()) {
        assertTrue(value > 0, comparison.name());
      }
    }
    String table = Files.readString(folder.resolve("results.md"));
    assertTrue(table.contains("not run: transformers is not installed: "), table);
    assertTrue(table.contains("tiny models"), table);
    Cli.run("compare", folder.resolve("results.json"), folder.resolve("results.json")).ends(0);
  }

  private static boolean isSkipped(Row row, String comparison) {
    return row.name().equals(comparison + "/" + Comparison.PEAK) && !row.notRun().isEmpty();
  }

  @Test
  void patternsChoose() {
    Cli listed = Cli.run("peers", "--list", "captures", "^load$").ends(0);
    assertEquals(
        List.of("captures-float32", "captures-bfloat16", "load"), listed.out().lines().toList());
  }

  @Test
  void aRowThatIsWrongOrMissesItsTargetSaysSo() {
    Row wrong =
        new Row(
            "load/seconds",
            "",
            "",
            "s",
            List.of(0.5),
            List.of(),
            List.of(),
            List.of(new Agreement(0.1, 0.01)),
            List.of());
    assertTrue(wrong.isWrong());
    Row missed =
        new Row(
            "load/seconds", "", "", "s", List.of(0.5), List.of(), List.of(), List.of(), List.of());
    assertFalse(missed.isWrong());
    String table = Tables.of(Results.of(List.of(), List.of(), List.of(wrong, missed)));
    assertTrue(table.contains("WRONG"), table);
    assertTrue(table.contains("≤ 0.400 MISSED"), table);
  }
}
