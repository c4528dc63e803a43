package org.bertology4j.cli;

import java.io.PrintWriter;
import java.util.Arrays;
import org.bertology4j.internal.Native;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.Spec;

/**
 * The command {@code bertology}. Exit codes: 0, 1 for failures (one line on standard error), 2 for
 * wrong usage.
 */
@Command(
    name = "bertology",
    description = "BERT from the inside: importance of attention heads, masks, pruning, captures.",
    footer = "%nExit codes: 0 for success, 1 for a failure, 2 for wrong usage.",
    mixinStandardHelpOptions = true,
    scope = ScopeType.INHERIT,
    versionProvider = Main.Version.class,
    subcommands = {
      RunCommand.class,
      SweepCommand.class,
      CaptureCommand.class,
      PruneCommand.class,
      InfoCommand.class,
      BenchCommand.class
    })
public final class Main implements Runnable {
  @Spec private CommandSpec spec;

  /** What --version prints. */
  static final class Version implements IVersionProvider {
    @Override
    public String[] getVersion() {
      return new String[] {"bertology " + Native.version()};
    }
  }

  private Main() {}

  /** Runs the command and exits. */
  public static void main(String[] arguments) {
    Execution.exit(() -> execute(arguments));
  }

  /** Runs the command; its exit code. */
  static int execute(String... arguments) {
    return execute(new PrintWriter(System.out, true), new PrintWriter(System.err, true), arguments);
  }

  /** Runs the command with these for standard output and standard error; its exit code. */
  static int execute(PrintWriter out, PrintWriter err, String... arguments) {
    CommandLine command = new CommandLine(new Main());
    command.setOut(out).setErr(err);
    for (CommandLine sub : command.getSubcommands().values()) {
      sub.getCommandSpec().usageMessage().sortOptions(false).sortSynopsis(false);
    }
    return Execution.of(
        command, Arrays.stream(arguments).map(Main::withUnderscores).toArray(String[]::new));
  }

  /** Without a subcommand. */
  @Override
  public void run() {
    throw new ParameterException(spec.commandLine(), "a command is missing");
  }

  /** Options have underscores, as those of run_bertology.py; dashes are accepted too. */
  private static String withUnderscores(String argument) {
    if (!argument.startsWith("--")) {
      return argument;
    }
    int end = argument.indexOf('=') < 0 ? argument.length() : argument.indexOf('=');
    return "--" + argument.substring(2, end).replace('-', '_') + argument.substring(end);
  }
}
