package org.bertology4j.benchmarks;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.bertology4j.DType;
import org.bertology4j.benchmarks.jmh.PeakProfiler;
import org.bertology4j.benchmarks.jmh.Subjects;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code bertology-benchmarks jmh}: this library alone, by JMH. */
@Command(
    name = "jmh",
    description =
        "Runs JMH benchmarks of this library alone, each iteration next to a measurement of the"
            + " machine's matrix products, and writes results.json and results.md.")
final class JmhCommand implements Callable<Integer> {
  private static final String BENCHMARKS = "org\\.bertology4j\\.benchmarks\\.jmh\\.";

  private static final List<String> PARAMETERS =
      List.of("subject", "dtype", "length", "batch", "capture", "percent", "how");

  /** What --quick takes of the parameters that have many values. */
  private static final Map<String, List<String>> QUICK =
      Map.of(
          "subject", List.of("bert-base"),
          "dtype", List.of("float32"),
          "length", List.of("50"),
          "batch", List.of("16"),
          "percent", List.of("0", "50"));

  @Mixin private RunArguments arguments;

  @Option(
      names = "--param",
      paramLabel = "NAME=VALUE,...",
      description =
          "values of a parameter instead of all: subject, dtype, length, batch, capture, percent,"
              + " how")
  private Map<String, String> parameters = Map.of();

  @Option(
      names = "--iterations",
      defaultValue = "5",
      paramLabel = "N",
      description = "iterations that count (default: ${DEFAULT-VALUE}; 2 with --quick)")
  private int iterations;

  @Option(
      names = "--forks",
      defaultValue = "1",
      paramLabel = "N",
      description = "virtual machines one after the other; 0: in this one (default: 1)")
  private int forks;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() throws RunnerException {
    arguments.require(iterations > 0, "--iterations is %d, expected 1 or more", iterations);
    parameters
        .keySet()
        .forEach(
            name ->
                arguments.require(
                    PARAMETERS.contains(name),
                    "--param %s: known are %s",
                    name,
                    String.join(", ", PARAMETERS)));
    arguments.require(forks >= 0, "--forks is %d, expected 0 or more", forks);
    try (Setting setting = new Setting(arguments.threads(), false)) {
      ChainedOptionsBuilder options = options(setting);
      Runner runner = new Runner(options.build());
      if (arguments.list()) {
        runner.list();
        return 0;
      }
      Path output = arguments.output();
      Collection<RunResult> runs = runner.run();
      Results results =
          Results.of(
              setting.machine(), runs.stream().map(JmhCommand::benchmark).toList(), List.of());
      PeersCommand.write(results, output);
      PrintWriter out = spec.commandLine().getOut();
      out.println(output.resolve("results.json") + " and results.md");
      out.flush();
    }
    return 0;
  }

  private ChainedOptionsBuilder options(Setting setting) {
    boolean quick = arguments.quick();
    ChainedOptionsBuilder options =
        new OptionsBuilder()
            .mode(Mode.AverageTime)
            .timeUnit(TimeUnit.SECONDS)
            .forks(forks)
            .warmupIterations(quick ? 1 : 2)
            .measurementIterations(quick ? Math.min(2, iterations) : iterations)
            .warmupTime(TimeValue.milliseconds(quick ? 200 : 1000))
            .measurementTime(TimeValue.milliseconds(quick ? 200 : 1000))
            .addProfiler(PeakProfiler.class)
            .jvmArgsAppend("-D" + Subjects.THREADS + "=" + arguments.threads())
            .shouldFailOnError(true);
    List<Pattern> patterns = arguments.patterns();
    if (patterns.isEmpty()) {
      options.include(BENCHMARKS);
    }
    patterns.forEach(pattern -> options.include(BENCHMARKS + ".*(" + pattern + ")"));
    Map<String, List<String>> chosen = new HashMap<>();
    if (quick) {
      chosen.putAll(QUICK);
    } else if (!setting.device().supports(DType.BFLOAT16)) {
      chosen.put("dtype", List.of(DType.FLOAT32.toString()));
    }
    parameters.forEach((name, values) -> chosen.put(name, List.of(values.split(","))));
    chosen.forEach((name, values) -> options.param(name, values.toArray(new String[0])));
    return options;
  }

  private static Benchmark benchmark(RunResult run) {
    List<Double> seconds = new ArrayList<>();
    List<Double> peaks = new ArrayList<>();
    run.getBenchmarkResults()
        .forEach(
            fork -> {
              for (IterationResult iteration : fork.getIterationResults()) {
                seconds.add(iteration.getPrimaryResult().getScore());
                peaks.add(iteration.getSecondaryResults().get(PeakProfiler.PEAK).getScore());
              }
            });
    String name = run.getParams().getBenchmark().replaceFirst(BENCHMARKS, "");
    String values =
        run.getParams().getParamsKeys().stream()
            .sorted()
            .map(key -> key + "=" + run.getParams().getParam(key))
            .collect(Collectors.joining(",", "[", "]"));
    return Benchmark.ofTime(name + values, seconds, peaks);
  }
}
