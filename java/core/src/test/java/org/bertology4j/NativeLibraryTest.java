package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Unpacking and loading the native library in processes of their own. */
class NativeLibraryTest {
  @TempDir Path temporary;

  /** What the processes run. */
  static final class Main {
    public static void main(String[] arguments) {
      try (Model model = Model.load(Path.of(arguments[0]));
          Activations run = model.run(Batch.of(new int[] {1, 2, 3}), Capture.LOGITS)) {
        System.out.println("logits " + run.logits().elements());
      }
    }
  }

  private Process start(Path cache, String... options) throws Exception {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.add("-Xmx64m");
    command.add("-Dorg.bytedeco.javacpp.cachedir=" + cache);
    if (Runtime.version().feature() >= 22) {
      command.add("--enable-native-access=ALL-UNNAMED");
    }
    command.addAll(List.of(options));
    command.addAll(
        List.of(
            "-cp",
            System.getProperty("java.class.path"),
            Main.class.getName(),
            Golden.folder("classification").toString()));
    return new ProcessBuilder(command).redirectErrorStream(true).start();
  }

  private static String output(Process process) throws Exception {
    String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(process.waitFor(60, TimeUnit.SECONDS));
    assertEquals(0, process.exitValue(), text);
    return text;
  }

  @Test
  void fourProcessesUnpackAtOnce() throws Exception {
    Path cache = Files.createDirectory(temporary.resolve("cache"));
    List<Process> processes = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      processes.add(start(cache));
    }
    for (Process process : processes) {
      assertEquals("logits 3\n", output(process), "and no warnings");
    }
  }

  @Test
  void unusedResourcesAreReportedWhenAskedFor() throws Exception {
    Process process = start(temporary, "-Dorg.bertology4j.leaks=true");
    assertEquals("logits 3\n", output(process));
  }
}
