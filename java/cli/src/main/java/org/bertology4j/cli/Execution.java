package org.bertology4j.cli;

import java.io.PrintWriter;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.IntSupplier;
import org.bertology4j.BertologyException;
import org.bertology4j.BertologyException.Kind;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.UnmatchedArgumentException;

/**
 * How commands end: with 0, with 1 and one line on standard error that says why, or with 2 for
 * wrong usage.
 */
public final class Execution {
  private static final int UNWINDING_SECONDS = 10;

  private Execution() {}

  /** Runs a command in this thread and ends the virtual machine with its exit code. */
  public static void exit(IntSupplier command) {
    CountDownLatch ended = unwindOnSignal();
    int code;
    try {
      code = command.getAsInt();
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

  /** Runs a command with its own standard output and standard error; its exit code. */
  public static int of(CommandLine command, String... arguments) {
    command.setUsageHelpAutoWidth(true);
    command.setExecutionExceptionHandler((e, failed, parsed) -> report(e, command));
    command.setParameterExceptionHandler((e, parsed) -> explain(e, command));
    try {
      return command.execute(arguments);
    } catch (Error e) {
      return report(e, command);
    }
  }

  private static int report(Throwable e, CommandLine command) {
    PrintWriter err = command.getErr();
    err.println(command.getCommandName() + ": " + oneLine(text(e)));
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

  private static int explain(ParameterException e, CommandLine command) {
    CommandLine failed = e.getCommandLine();
    PrintWriter err = failed.getErr();
    err.println(
        command.getCommandName() + ": " + oneLine(e.getMessage().replaceFirst("^Error: ", "")));
    UnmatchedArgumentException.printSuggestions(e, err);
    err.printf("Try '%s --help'.%n", failed.getCommandSpec().qualifiedName());
    return CommandLine.ExitCode.USAGE;
  }

  private static String oneLine(String text) {
    return text.strip().replaceAll("\\s*\\R\\s*", " ");
  }
}
