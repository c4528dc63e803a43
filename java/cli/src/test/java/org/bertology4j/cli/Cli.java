package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.Arrays;

/** Runs commands as the launcher does, but in this process. */
final class Cli {
  private Cli() {}

  /** What a command printed, and its exit code. */
  record Result(int code, String out, String err) {}

  /** Runs a command. Paths are taken as they are written. */
  static Result run(Object... arguments) {
    StringWriter out = new StringWriter();
    StringWriter err = new StringWriter();
    int code =
        Main.execute(
            new PrintWriter(out, true),
            new PrintWriter(err, true),
            Arrays.stream(arguments).map(Object::toString).toArray(String[]::new));
    return new Result(code, out.toString(), err.toString());
  }

  /** The command succeeds in silence on standard error; what it printed. */
  static String succeeds(Object... arguments) {
    Result result = run(arguments);
    assertEquals("", result.err());
    assertEquals(0, result.code());
    return result.out();
  }

  /** The command fails with one line on standard error that says this. */
  static void fails(String saying, Object... arguments) {
    Result result = run(arguments);
    assertEquals(1, result.code(), result.err());
    assertEquals(1, result.err().lines().count(), result.err());
    assertSaid(saying, result.err());
  }

  /** The command is refused as wrong usage; the first of a few lines says this. */
  static void misused(String saying, Object... arguments) {
    Result result = run(arguments);
    assertEquals(2, result.code(), result.err());
    assertEquals("", result.out());
    assertTrue(result.err().lines().count() <= 3, result.err());
    assertTrue(result.err().strip().endsWith("--help'."), result.err());
    assertSaid(saying, result.err().lines().findFirst().orElse(""));
  }

  private static void assertSaid(String saying, String line) {
    assertTrue(line.startsWith("bertology: ") && line.contains(saying), line);
  }
}
