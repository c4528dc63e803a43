package org.bertology4j.benchmarks;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonParseException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import org.bertology4j.BertologyException;
import org.bertology4j.checkpoint.AtomicFiles;

/**
 * What a run of benchmarks found, as it is in a file.
 *
 * @param machine what it ran on, a line each
 * @param rows other libraries beside this one; not compared with those of other runs
 */
record Results(String format, List<String> machine, List<Benchmark> benchmarks, List<Row> rows) {
  private static final String FORMAT = "bertology4j-benchmarks 1";
  private static final Gson GSON =
      new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().create();

  Results {
    machine = List.copyOf(machine);
    benchmarks = List.copyOf(benchmarks);
    rows = List.copyOf(rows);
  }

  static Results of(List<String> machine, List<Benchmark> benchmarks, List<Row> rows) {
    return new Results(FORMAT, machine, benchmarks, rows);
  }

  void write(Path file) {
    AtomicFiles.writeString(file, GSON.toJson(this));
  }

  /**
   * Reads a file.
   *
   * @throws BertologyException if it cannot be read, or is not a file of results, whole
   */
  static Results read(Path file) {
    try {
      Results read = GSON.fromJson(Files.readString(file), Results.class);
      check(file, read != null && FORMAT.equals(read.format()), "its format is not " + FORMAT);
      Set<String> names = new HashSet<>();
      for (Benchmark benchmark : read.benchmarks()) {
        check(file, benchmark.name() != null, "a benchmark has no name");
        check(file, names.add(benchmark.name()), benchmark.name() + " is there twice");
        check(file, benchmark.measure() != null, benchmark.name() + " has no known measure");
        check(
            file,
            !benchmark.values().isEmpty()
                && benchmark.values().stream().allMatch(v -> Double.isFinite(v)),
            benchmark.name() + " has no values, or some that are not numbers");
      }
      return read;
    } catch (NoSuchFileException e) {
      throw BertologyException.io(e, "%s: there is no such file", file);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be read: %s", file, e);
    } catch (JsonParseException | NullPointerException e) {
      throw damaged(file, "it is not complete JSON of results");
    } catch (RuntimeException e) {
      // Gson wraps what a record's constructor throws.
      if (e instanceof BertologyException) {
        throw e;
      }
      throw damaged(file, "parts of it are missing");
    }
  }

  private static void check(Path file, boolean ok, String problem) {
    if (!ok) {
      throw damaged(file, problem);
    }
  }

  private static BertologyException damaged(Path file, String problem) {
    return BertologyException.invalid("%s is not a file of results: %s", file, problem);
  }

  /** The benchmark of this name, which must be there. */
  Benchmark benchmark(String name) {
    return benchmarks.stream()
        .filter(benchmark -> Objects.equals(benchmark.name(), name))
        .findFirst()
        .orElseThrow(() -> BertologyException.invalid("there is no benchmark %s", name));
  }
}
