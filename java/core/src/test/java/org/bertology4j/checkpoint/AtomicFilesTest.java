package org.bertology4j.checkpoint;

import static org.bertology4j.checkpoint.Golden.assertFails;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AtomicFilesTest {
  @TempDir Path folder;

  @Test
  void writesAndReplaces() throws IOException {
    Path target = folder.resolve("config.json");
    AtomicFiles.writeString(target, "grün");
    assertEquals("grün", Files.readString(target));
    AtomicFiles.write(target, new byte[] {1, 2});
    assertArrayEquals(new byte[] {1, 2}, Files.readAllBytes(target));
    assertEquals(List.of("config.json"), list());
  }

  @Test
  void givesTheUsualPermissions() throws IOException {
    Path usual = Files.writeString(folder.resolve("usual"), "x");
    Path target = folder.resolve("target");
    AtomicFiles.writeString(target, "x");
    assertEquals(Files.getPosixFilePermissions(usual), Files.getPosixFilePermissions(target));
  }

  @Test
  void showsNothingUntilItIsThere() throws IOException {
    Path target = Files.writeString(folder.resolve("x"), "old");
    AtomicFiles.write(
        target,
        3,
        channel -> {
          channel.write(ByteBuffer.wrap(new byte[] {1}));
          assertEquals("old", Files.readString(target));
          assertEquals(2, list().size());
          channel.write(ByteBuffer.wrap(new byte[] {2, 3}));
        });
    assertArrayEquals(new byte[] {1, 2, 3}, Files.readAllBytes(target));
  }

  @Test
  void leavesNothingWhenItFails() throws IOException {
    Path missing = folder.resolve("missing/x");
    assertFails(Kind.IO, () -> AtomicFiles.writeString(missing, "x"), missing.toString());

    Path occupied = Files.createDirectories(folder.resolve("occupied/inside")).getParent();
    assertFails(
        Kind.IO, () -> AtomicFiles.writeString(occupied, "new"), occupied.toString(), "3 bytes");
    assertTrue(Files.isDirectory(occupied));
    assertEquals(List.of("occupied"), list());
  }

  @Test
  void reportsAnInterruption() throws IOException {
    Path target = Files.writeString(folder.resolve("x"), "old");
    Thread.currentThread().interrupt();
    try {
      assertFails(
          Kind.INTERRUPTED, () -> AtomicFiles.writeString(target, "new"), target.toString());
    } finally {
      assertTrue(Thread.interrupted());
    }
    assertEquals("old", Files.readString(target));
    assertEquals(List.of("x"), list());
  }

  private List<String> list() throws IOException {
    try (Stream<Path> paths = Files.list(folder)) {
      return paths.map(path -> path.getFileName().toString()).toList();
    }
  }
}
