package org.bertology4j.checkpoint;

import static org.bertology4j.checkpoint.Golden.assertFails;
import static org.bertology4j.checkpoint.Golden.assertInvalid;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.bertology4j.BertologyException;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DataFileTest {
  // More than what is read in one step.
  private static final int SIZE = (1 << 20) + 12345;

  @TempDir Path folder;

  private byte[] content;

  private Path write() throws IOException {
    content = new byte[SIZE];
    new Random(1).nextBytes(content);
    return Files.write(folder.resolve("data"), content);
  }

  private byte[] read(DataFile file) {
    ByteBuffer target = ByteBuffer.allocateDirect(SIZE);
    file.read(0, target);
    byte[] bytes = new byte[SIZE];
    target.flip().get(bytes);
    return bytes;
  }

  @Test
  void readsRangesAndStreams() throws IOException {
    try (DataFile file = DataFile.open(write())) {
      assertArrayEquals(content, read(file));
      assertArrayEquals(content, file.stream(0, SIZE).readAllBytes());
      assertEquals(content[SIZE - 1] & 0xff, file.stream(SIZE - 1, 1).read());
      assertEquals(-1, file.stream(0, 0).read());
    }
  }

  /** Reads in another thread until that is interrupted; what came out of it. */
  private Kind interruptAReader(DataFile file) throws InterruptedException {
    AtomicReference<Kind> kind = new AtomicReference<>();
    Thread victim =
        new Thread(
            () -> {
              try {
                while (true) {
                  read(file);
                }
              } catch (BertologyException e) {
                kind.set(e.kind());
              }
            });
    victim.start();
    Thread.sleep(1);
    victim.interrupt();
    victim.join(TimeUnit.SECONDS.toMillis(20));
    return kind.get();
  }

  @Test
  void survivesThatAReaderIsInterrupted() throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(2);
    try (DataFile file = DataFile.open(write())) {
      AtomicBoolean stop = new AtomicBoolean();
      List<Future<Integer>> readers = new ArrayList<>();
      for (int i = 0; i < 2; i++) {
        readers.add(
            threads.submit(
                () -> {
                  int count = 0;
                  for (; !stop.get() || count == 0; count++) {
                    assertArrayEquals(content, read(file));
                  }
                  return count;
                }));
      }
      for (int i = 0; i < 100; i++) {
        assertEquals(Kind.INTERRUPTED, interruptAReader(file));
      }
      stop.set(true);
      for (Future<Integer> reader : readers) {
        assertTrue(reader.get(20, TimeUnit.SECONDS) > 0);
      }
      assertArrayEquals(content, read(file));
    } finally {
      threads.shutdownNow();
    }
  }

  @Test
  void doesNotTakeAnotherFileForTheOneThatItOpened() throws Exception {
    Path path = write();
    try (DataFile file = DataFile.open(path)) {
      AtomicFiles.write(path, new byte[SIZE]);
      // The old file is read until an interruption closes it: its name is another file's by then.
      Kind kind = null;
      for (int i = 0; i < 1000 && kind == null; i++) {
        interruptAReader(file);
        try {
          assertArrayEquals(content, read(file));
        } catch (BertologyException e) {
          kind = e.kind();
          assertTrue(e.getMessage().contains("changed since it was opened"), e.getMessage());
        }
      }
      assertEquals(Kind.IO, kind);
    }
  }

  @Test
  void isClosedOnce() throws IOException {
    DataFile file = DataFile.open(write());
    file.close();
    file.close();
    assertFails(Kind.CLOSED, () -> read(file), "has been closed");
  }

  @Test
  void findsFilesInsideAFolderOnly() {
    assertEquals(folder.resolve("a/b"), DataFiles.inside(folder, "a/./b", "index"));
    for (String name : List.of("..", "../a", "a/../../b", "/a", "", ".")) {
      assertInvalid(() -> DataFiles.inside(folder, name, "index"), "index", "leads out of");
    }
    assertInvalid(() -> DataFiles.inside(folder, "a\0b", "index"), "index", "not a file name");
  }
}
