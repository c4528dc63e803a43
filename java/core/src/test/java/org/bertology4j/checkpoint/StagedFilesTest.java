package org.bertology4j.checkpoint;

import static org.bertology4j.checkpoint.Golden.assertFails;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StagedFilesTest {
  @TempDir Path folder;
  private Path first;
  private Path second;

  @BeforeEach
  void oldFiles() throws IOException {
    first = Files.writeString(folder.resolve("first"), "old");
    second = Files.writeString(folder.resolve("second"), "old");
  }

  private void assertOld() throws IOException {
    assertEquals("old", Files.readString(first));
    assertEquals("old", Files.readString(second));
    assertEquals(List.of("first", "second"), list());
  }

  private List<String> list() throws IOException {
    try (Stream<Path> paths = Files.list(folder)) {
      return paths.map(path -> path.getFileName().toString()).sorted().toList();
    }
  }

  @Test
  void appearTogether() throws IOException {
    try (StagedFiles files = new StagedFiles()) {
      files.write(first, new byte[] {1});
      files.write(second, 2, channel -> channel.write(ByteBuffer.wrap(new byte[] {2, 3})));
      assertEquals("old", Files.readString(first));
      assertEquals("old", Files.readString(second));
      files.commit();
    }
    assertArrayEquals(new byte[] {1}, Files.readAllBytes(first));
    assertArrayEquals(new byte[] {2, 3}, Files.readAllBytes(second));
    assertEquals(List.of("first", "second"), list());
  }

  @Test
  void areAsTheyWereWithoutCommit() throws IOException {
    try (StagedFiles files = new StagedFiles()) {
      files.write(first, new byte[] {1});
    }
    assertOld();
  }

  @Test
  void areAsTheyWereWhenTheLastOneFails() throws IOException {
    assertFails(
        Kind.IO,
        () -> {
          try (StagedFiles files = new StagedFiles()) {
            files.write(first, new byte[] {1});
            files.write(
                second,
                7,
                channel -> {
                  channel.write(ByteBuffer.allocate(3));
                  throw new IOException("No space left on device");
                });
            files.commit();
          }
        },
        second.toString(),
        "cannot write 7 bytes: No space left on device");
    assertOld();
  }

  @Test
  void areAsTheyWereWhenANameIsThatOfAFolder() throws IOException {
    Path occupied = Files.createDirectories(folder.resolve("occupied/inside")).getParent();
    assertFails(
        Kind.IO,
        () -> {
          try (StagedFiles files = new StagedFiles()) {
            files.write(first, new byte[] {1});
            files.write(occupied, new byte[] {2});
            files.commit();
          }
        },
        occupied.toString(),
        "it is a folder");
    assertEquals("old", Files.readString(first));
    assertEquals(List.of("first", "occupied", "second"), list());
  }
}
