package org.bertology4j.benchmarks;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code bertology-benchmarks compare}: fails if results are worse than a baseline. */
@Command(
    name = "compare",
    description =
        "Compares results with a baseline and fails if one of its benchmarks is worse by more than"
            + " noise, or missing. Numbers are relative to the matrix products of their own run,"
            + " so that a slower hour of the same machine is no regression.")
final class CompareCommand implements Callable<Integer> {
  @Parameters(index = "0", paramLabel = "BASELINE", description = "results.json of an earlier run")
  private Path baseline;

  @Parameters(index = "1", paramLabel = "RESULTS", description = "results.json of this run")
  private Path results;

  @Option(
      names = "--noise",
      defaultValue = "0.05",
      paramLabel = "PART",
      description =
          "changes up to this part are noise, and larger ones that are within half the"
              + " distances between the quartiles of both runs (default: ${DEFAULT-VALUE})")
  private double noise;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    if (!(noise >= 0 && noise < 1)) {
      throw new ParameterException(
          spec.commandLine(), "--noise is " + noise + ", expected 0 or more, less than 1");
    }
    List<Gate.Verdict> verdicts =
        Gate.verdicts(Results.read(baseline), Results.read(results), noise);
    PrintWriter out = spec.commandLine().getOut();
    for (Gate.Verdict verdict : verdicts) {
      out.printf(
          Locale.ROOT,
          "%-60s %-8s %+6.1f %%  (noise: %.1f %%)%n",
          verdict.name(),
          verdict.outcome(),
          verdict.change() * 100,
          verdict.band() * 100);
    }
    out.flush();
    List<Gate.Verdict> failed =
        verdicts.stream().filter(verdict -> verdict.outcome().fails()).toList();
    if (failed.isEmpty()) {
      return ExitCode.OK;
    }
    spec.commandLine()
        .getErr()
        .println(
            "bertology-benchmarks: "
                + failed.stream()
                    .map(
                        verdict ->
                            verdict.name()
                                + " is "
                                + verdict.outcome().name().toLowerCase(Locale.ROOT))
                    .collect(Collectors.joining(", ")));
    return ExitCode.SOFTWARE;
  }
}
