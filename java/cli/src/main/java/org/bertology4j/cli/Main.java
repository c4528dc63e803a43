package org.bertology4j.cli;

import java.io.PrintWriter;
import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.bertology4j.BertologyException;
import org.bertology4j.BertologyException.Kind;
import org.bertology4j.internal.Native;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.Spec;
import picocli.CommandLine.UnmatchedArgumentException;

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
  private static final int UNWINDING_SECONDS = 10;

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
    CountDownLatch ended = unwindOnSignal();
    int code;
    try {
      code = execute(arguments);
    } finally {
      ended.countDown();
    }
    System.exit(code);
  }

  /**
   * Ctrl-C and its like interrupt the command, which deletes what it has half-written. The virtual
   * machine ends when the latch is counted down, or some seconds later.
   */
  private static CountDownLatch unwindOnSignal() {
    Thread command = Thread.currentThread();
    CountDownLatch ended = new CountDownLatch(1);
    Runnable unwind =
        () -> {
          command.interrupt();
          try {
            ended.await(UNWINDING_SECONDS, TimeUnit.SECONDS);
          } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
          }
        };
    Runtime.getRuntime().addShutdownHook(new Thread(unwind, "unwind"));
    return ended;
  }

  /** Runs the command; its exit code. */
  static int execute(String... arguments) {
    return execute(new PrintWriter(System.out, true), new PrintWriter(System.err, true), arguments);
  }

  /** Runs the command with these for standard output and standard error; its exit code. */
  static int execute(PrintWriter out, PrintWriter err, String... arguments) {
    CommandLine command = new CommandLine(new Main());
    command.setOut(out).setErr(err);
    command.setUsageHelpAutoWidth(true);
    command.setExecutionExceptionHandler((e, failed, parsed) -> report(e, err));
    command.setParameterExceptionHandler((e, parsed) -> explain(e));
    for (CommandLine sub : command.getSubcommands().values()) {
      sub.getCommandSpec().usageMessage().sortOptions(false).sortSynopsis(false);
    }
    try {
      return command.execute(
          Arrays.stream(arguments).map(Main::withUnderscores).toArray(String[]::new));
    } catch (Error e) {
      return report(e, err);
    }
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

  private static int report(Throwable e, PrintWriter err) {
    err.println("bertology: " + oneLine(text(e)));
    if (Boolean.getBoolean("bertology.debug")) {
      e.printStackTrace(err);
    }
    return CommandLine.ExitCode.SOFTWARE;
  }

  private static String text(Throwable e) {
    if (e instanceof BertologyException typed
        && (typed.kind() == Kind.INTERRUPTED || !Thread.currentThread().isInterrupted())) {
      return typed.getMessage();
    }
    if (Thread.currentThread().isInterrupted()) {
      return "interrupted";
    }
    return e instanceof OutOfMemoryError
        ? "Java's memory is full (" + e.getMessage() + "); BERTOLOGY_OPTS=-Xmx... gives it more"
        : e.toString();
  }

  private static int explain(ParameterException e) {
    CommandLine failed = e.getCommandLine();
    PrintWriter err = failed.getErr();
    err.println("bertology: " + oneLine(e.getMessage().replaceFirst("^Error: ", "")));
    UnmatchedArgumentException.printSuggestions(e, err);
    err.printf("Try '%s --help'.%n", failed.getCommandSpec().qualifiedName());
    return CommandLine.ExitCode.USAGE;
  }

  private static String oneLine(String text) {
    return text.strip().replaceAll("\\s*\\R\\s*", " ");
  }
}
