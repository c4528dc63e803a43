package org.bertology4j.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;
import org.bertology4j.BertologyException;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** What commands that measure share. */
final class RunArguments {
  @Spec(Spec.Target.MIXEE)
  private CommandSpec spec;

  @Parameters(
      arity = "0..*",
      paramLabel = "PATTERN",
      description = "only those whose names contain one of these regular expressions")
  private List<Pattern> patterns = List.of();

  @Option(
      names = "--output",
      defaultValue = "benchmark-results",
      paramLabel = "FOLDER",
      description = "where results.json and results.md go (default: ${DEFAULT-VALUE})")
  private Path output;

  @Option(
      names = "--threads",
      defaultValue = "0",
      paramLabel = "N",
      description = "threads of this library and all others (default: as many as there are)")
  private int threads;

  @Option(names = "--quick", description = "a short run, of less weight")
  private boolean quick;

  @Option(names = "--list", description = "prints the names and runs nothing")
  private boolean list;

  void require(boolean ok, String format, Object... values) {
    if (!ok) {
      throw new ParameterException(spec.commandLine(), String.format(Locale.ROOT, format, values));
    }
  }

  List<Pattern> patterns() {
    return patterns;
  }

  boolean chooses(String name) {
    return patterns.isEmpty()
        || patterns.stream().anyMatch(pattern -> pattern.matcher(name).find());
  }

  /** The folder, which is made if it is not there. */
  Path output() {
    try {
      return Files.createDirectories(output);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s cannot be made: %s", output, e);
    }
  }

  int threads() {
    require(threads >= 0, "--threads is %d, expected 0 or more", threads);
    return threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
  }

  boolean quick() {
    return quick;
  }

  boolean list() {
    return list;
  }
}
