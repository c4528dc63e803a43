package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.bertology4j.BertologyException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Progress and interruption, in processes of their own where they are about the terminal. */
class ProgressTest {
  private static final int SIGTERM_EXIT = 143;

  @TempDir Path temporary;

  @Test
  void itemsComeInOrder() {
    List<Integer> seen = new ArrayList<>();
    for (int item : Progress.over("counting", List.of(3, 1, 2))) {
      seen.add(item);
    }
    assertEquals(List.of(3, 1, 2), seen);
    assertTrue(!Progress.over("nothing", List.of()).hasNext());
  }

  @Test
  void anInterruptEndsIt() {
    List<Integer> seen = new ArrayList<>();
    BertologyException e =
        assertThrows(
            BertologyException.class,
            () -> {
              for (int item : Progress.over("counting", List.of(1, 2, 3))) {
                seen.add(item);
                if (item == 2) {
                  Thread.currentThread().interrupt();
                }
              }
            });
    assertTrue(Thread.interrupted());
    assertEquals(BertologyException.Kind.INTERRUPTED, e.kind());
    assertEquals(List.of(1, 2), seen);
  }

  private Process start(int texts, String... options) throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    if (Runtime.version().feature() >= 22) {
      command.add("--enable-native-access=ALL-UNNAMED");
    }
    command.addAll(List.of(options));
    command.addAll(List.of("-cp", System.getProperty("java.class.path"), Main.class.getName()));
    Path model = Tiny.slow(temporary.resolve("model"));
    Path input =
        Tiny.table(temporary.resolve("texts.tsv"), "sentence", Tiny.sentences(texts, 20, 1));
    command.addAll(List.of("capture", "--model_name_or_path", model.toString()));
    command.addAll(List.of("--input", input.toString(), "--capture", "logits", "--threads", "1"));
    command.addAll(List.of("--output", temporary.resolve("captures").toString()));
    return new ProcessBuilder(command).start();
  }

  private static String errors(Process process) throws Exception {
    String text = new String(process.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(process.waitFor(60, TimeUnit.SECONDS));
    return text;
  }

  private List<String> captures() throws Exception {
    try (Stream<Path> files = Files.list(temporary)) {
      return files
          .map(f -> f.getFileName().toString())
          .filter(f -> f.contains("captures"))
          .toList();
    }
  }

  @Test
  void aTerminalSeesABarThatIsWipedAway() throws Exception {
    Process process = start(1000, "-Dbertology.columns=60");
    String errors = errors(process);
    assertEquals(0, process.exitValue(), errors);
    List<String> drawn = List.of(errors.split("\r"));
    assertTrue(
        drawn.stream().anyMatch(line -> line.matches("capture .*\\d+% \\[=.*\\].*")), errors);
    assertTrue(drawn.stream().allMatch(line -> line.length() < 60), errors);
    assertTrue(errors.endsWith("\r" + " ".repeat(59) + "\r"), errors);
    assertEquals(List.of("captures"), captures());
  }

  @Test
  void aSignalLeavesNothingHalfWritten() throws Exception {
    Process process = start(4000);
    while (captures().isEmpty()) {
      assertTrue(process.isAlive(), "it has begun to write");
      Thread.sleep(5);
    }
    process.toHandle().destroy(); // unlike process.destroy(), it leaves what is said to be read
    String errors = errors(process);
    assertEquals(SIGTERM_EXIT, process.exitValue(), errors);
    assertTrue(errors.startsWith("bertology: ") && errors.contains("interrupted"), errors);
    assertEquals(1, errors.lines().count(), errors);
    assertEquals(List.of(), captures());
  }
}
