package org.bertology4j.cli;

import java.util.Arrays;
import org.bertology4j.BertologyException;
import org.bertology4j.internal.Native;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.ScopeType;

/**
 * The command {@code bertology}. Exit codes: 0, 1 for failures (one line on standard error), 2 for
 * wrong usage.
 */
@Command(
    name = "bertology",
    description = "BERT from the inside: importance of attention heads, masks, pruning, captures.",
    mixinStandardHelpOptions = true,
    scope = ScopeType.INHERIT,
    versionProvider = Main.Version.class,
    subcommands = {
      RunCommand.class,
      CaptureCommand.class,
      PruneCommand.class,
      InfoCommand.class,
      BenchCommand.class
    })
public final class Main {
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
    System.exit(execute(arguments));
  }

  /** Runs the command; its exit code. */
  static int execute(String... arguments) {
    CommandLine command = new CommandLine(new Main());
    command.setExecutionExceptionHandler((e, failed, parsed) -> report(e, failed));
    command.setUsageHelpAutoWidth(true);
    return command.execute(
        Arrays.stream(arguments).map(Main::withUnderscores).toArray(String[]::new));
  }

  /** Options have underscores, as those of run_bertology.py; dashes are accepted too. */
  private static String withUnderscores(String argument) {
    if (!argument.startsWith("--")) {
      return argument;
    }
    int end = argument.indexOf('=') < 0 ? argument.length() : argument.indexOf('=');
    return "--" + argument.substring(2, end).replace('-', '_') + argument.substring(end);
  }

  private static int report(Exception e, CommandLine failed) {
    Throwable cause = e;
    if (!(cause instanceof BertologyException) && cause.getCause() instanceof BertologyException) {
      cause = cause.getCause();
    }
    String text = cause.getMessage() == null ? cause.toString() : cause.getMessage();
    if (!(cause instanceof BertologyException)) {
      text = cause.getClass().getSimpleName() + ": " + text;
    }
    failed.getErr().println("bertology: " + text.replace('\n', ' '));
    if (Boolean.getBoolean("bertology.debug")) {
      e.printStackTrace(failed.getErr());
    }
    return 1;
  }
}
