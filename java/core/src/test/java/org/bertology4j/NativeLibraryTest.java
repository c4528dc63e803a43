package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
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

  private static ChildJvm start(Path cache, String... options) throws IOException {
    List<String> all = new ArrayList<>(List.of(options));
    all.add("-Xmx64m");
    all.add("-Dorg.bytedeco.javacpp.cachedir=" + cache);
    return ChildJvm.start(Main.class, all, Golden.folder("classification").toString());
  }

  @Test
  void fourProcessesUnpackAtOnce() throws Exception {
    Path cache = Files.createDirectory(temporary.resolve("cache"));
    List<ChildJvm> processes = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      processes.add(start(cache));
    }
    for (ChildJvm process : processes) {
      assertEquals("logits 3\n", process.output(), "and no warnings");
    }
  }

  @Test
  void unusedResourcesAreReportedWhenAskedFor() throws Exception {
    ChildJvm process = start(temporary, "-Dorg.bertology4j.leaks=true");
    assertEquals("logits 3\n", process.output());
  }
}
