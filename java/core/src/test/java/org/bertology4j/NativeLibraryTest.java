package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

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

  /** Forgets to close a model and a result, and waits until that is noticed. */
  static final class Forgetful {
    public static void main(String[] arguments) throws InterruptedException {
      forget(Path.of(arguments[0]));
      for (int i = 0; i < 50; i++) {
        System.gc();
        Thread.sleep(20);
      }
    }

    private static void forget(Path folder) {
      Model.load(folder).run(Batch.of(new int[] {1, 2, 3}), Capture.LOGITS);
    }
  }

  private static ChildJvm start(Class<?> main, Path cache, String... options) throws IOException {
    List<String> all = new ArrayList<>(List.of(options));
    all.add("-Xmx64m");
    all.add("-Dorg.bytedeco.javacpp.cachedir=" + cache);
    return ChildJvm.start(main, all, Golden.folder("classification").toString());
  }

  @Test
  void fourProcessesUnpackAtOnce() throws Exception {
    Path cache = Files.createDirectory(temporary.resolve("cache"));
    List<ChildJvm> processes = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      processes.add(start(Main.class, cache));
    }
    for (ChildJvm process : processes) {
      assertEquals("logits 3\n", process.output(), "and no warnings");
    }
  }

  @Test
  void unusedResourcesAreReportedWhenAskedFor() throws Exception {
    String reports = "-Dorg.bertology4j.leaks=true";
    String closed = start(Main.class, temporary, reports).output();
    assertEquals("logits 3\n", closed, "everything was closed");
    String forgotten = start(Forgetful.class, temporary, reports).output();
    for (String what : List.of("model", "result of a run")) {
      assertTrue(forgotten.contains("bertology4j: a " + what + " was not closed"), forgotten);
    }
    assertTrue(forgotten.contains("Forgetful.forget"), forgotten);
    assertEquals("", start(Forgetful.class, temporary).output(), "nobody asked");
  }
}
