package org.bertology4j.benchmarks;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.bertology4j.benchmarks.peers.Peers;
import org.bertology4j.checkpoint.AtomicFiles;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code bertology-benchmarks peers}: this library beside others, in turn. */
@Command(
    name = "peers",
    description =
        "Runs this library and each other one that is installed in turn, round by round, checks"
            + " that both compute the same, and writes results.json and results.md. Others:"
            + " transformers 4.57.6 in a Python (--python); LibTorch, ONNX Runtime and DJL if this"
            + " was built with -Ppeers. What is not installed is a row that says so.")
final class PeersCommand implements Callable<Integer> {
  @Mixin private RunArguments arguments;

  @Option(
      names = "--rounds",
      defaultValue = "7",
      paramLabel = "N",
      description = "rounds, after one that does not count (default: ${DEFAULT-VALUE})")
  private int rounds;

  @Option(
      names = "--python",
      defaultValue = "python3",
      paramLabel = "PROGRAM",
      description = "a Python with torch and transformers 4.57.6 (default: ${DEFAULT-VALUE})")
  private String python;

  @Option(
      names = "--tiny",
      description = "on a tiny model, only to see whether everything runs; figures mean nothing")
  private boolean tiny;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    arguments.require(rounds > 0, "--rounds is %d, expected 1 or more", rounds);
    Comparisons comparisons = new Comparisons(arguments.quick());
    List<Comparison> chosen =
        comparisons.all().stream()
            .filter(comparison -> arguments.chooses(comparison.name()))
            .toList();
    boolean ranks = arguments.chooses(Ranks.NAME);
    arguments.require(!chosen.isEmpty() || ranks, "no comparison has such a name");
    PrintWriter out = spec.commandLine().getOut();
    if (arguments.list()) {
      chosen.forEach(comparison -> out.println(comparison.name()));
      if (ranks) {
        out.println(Ranks.NAME);
      }
      out.flush();
      return 0;
    }
    Path output = arguments.output();
    try (Setting setting = new Setting(arguments.threads(), tiny)) {
      Peers peers = new Peers(python, arguments.threads(), output);
      Session session = new Session(setting, peers, rounds);
      for (Comparison comparison : chosen) {
        session.run(comparison);
        progress(out, session, comparison.name());
        // What is there when the next one fails is not lost.
        write(session.results(), output);
      }
      if (ranks) {
        Ranks.run(session, setting, arguments.quick());
        progress(out, session, Ranks.NAME);
      }
      write(session.results(), output);
    }
    out.println(output.resolve("results.json") + " and results.md");
    out.flush();
    return 0;
  }

  private static void progress(PrintWriter out, Session session, String name) {
    for (Row row : session.results().rows()) {
      if (row.name().startsWith(name + "/")) {
        String values = row.values().isEmpty() ? "" : Spread.of(row.values()) + " " + row.measure();
        out.println((row.name() + "  " + values + " " + row.verdict(Optional.empty())).strip());
      }
    }
    out.flush();
  }

  static void write(Results results, Path output) {
    results.write(output.resolve("results.json"));
    AtomicFiles.writeString(output.resolve("results.md"), Tables.of(results));
  }
}
