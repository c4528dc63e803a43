package org.bertology4j.cli;

import java.util.Locale;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;

/** Mistakes that the command line alone tells: exit code 2. */
final class Usage {
  private Usage() {}

  /** Throws unless {@code ok}; the text is formatted as by {@link String#format}. */
  static void require(boolean ok, CommandSpec spec, String format, Object... arguments) {
    if (!ok) {
      throw new ParameterException(
          spec.commandLine(), String.format(Locale.ROOT, format, arguments));
    }
  }
}
