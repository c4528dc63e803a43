package org.bertology4j.benchmarks;

import java.io.PrintWriter;
import org.bertology4j.cli.Execution;
import org.bertology4j.internal.Native;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.Spec;

/**
 * The command {@code bertology-benchmarks}. Exit codes: 0, 1 for failures and regressions, 2 for
 * wrong usage.
 */
@Command(
    name = "bertology-benchmarks",
    description =
        "How fast bertology4j is: alone, beside other libraries, against earlier results.",
    footer = "%nExit codes: 0 for success, 1 for a failure or a regression, 2 for wrong usage.",
    mixinStandardHelpOptions = true,
    scope = ScopeType.INHERIT,
    versionProvider = Main.Version.class,
    subcommands = {JmhCommand.class, PeersCommand.class, CompareCommand.class})
public final class Main implements Runnable {
  @Spec private CommandSpec spec;

  /** What --version prints. */
  static final class Version implements IVersionProvider {
    @Override
    public String[] getVersion() {
      return new String[] {"bertology-benchmarks " + Native.version()};
    }
  }

  private Main() {}

  /** Runs the command and exits. */
  public static void main(String[] arguments) {
    PrintWriter out = new PrintWriter(System.out, true);
    PrintWriter err = new PrintWriter(System.err, true);
    Execution.exit(() -> execute(out, err, arguments));
  }

  /** Runs the command with these for standard output and standard error; its exit code. */
  static int execute(PrintWriter out, PrintWriter err, String... arguments) {
    return Execution.of(new CommandLine(new Main()).setOut(out).setErr(err), arguments);
  }

  /** Without a subcommand. */
  @Override
  public void run() {
    throw new ParameterException(spec.commandLine(), "a command is missing");
  }
}
