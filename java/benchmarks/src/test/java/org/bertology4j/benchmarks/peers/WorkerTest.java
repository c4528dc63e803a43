package org.bertology4j.benchmarks.peers;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.bertology4j.BertologyException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What workers are asked and answer. */
class WorkerTest {
  @TempDir Path folder;

  private Worker shell(String script) {
    return new Worker("sh", List.of("sh", "-c", script), 1, folder.resolve("log"));
  }

  @Test
  void answersMayStandBetweenOtherLines() {
    try (Worker worker =
        shell("read c; echo noise; echo '@{\"description\": \"a library 1.0\"}'")) {
      assertEquals("a library 1.0", worker.describe());
    }
  }

  @Test
  void failuresAreAnswers() {
    try (Worker worker = shell("read c; echo '@{\"error\": \"no module\"}'")) {
      BertologyException e = assertThrows(BertologyException.class, worker::describe);
      assertEquals("sh: no module", e.getMessage());
    }
  }

  @Test
  void aWorkerThatEndsIsAFailure() {
    try (Worker worker = shell("read c; exit 3")) {
      BertologyException e = assertThrows(BertologyException.class, worker::run);
      assertTrue(e.getMessage().contains("ended without an answer"), e.getMessage());
    }
  }

  @Test
  void whatIsMissingIsNotInstalled() {
    Peers peers = new Peers("/no/python", 1, folder);
    BertologyException e =
        assertThrows(BertologyException.class, () -> peers.start(Peers.TRANSFORMERS));
    assertEquals(
        "transformers is not installed: there is no /no/python; name one with --python",
        e.getMessage());
  }

  @Test
  void batchesAreFilledUpToTheirLongest() {
    PeerTask task =
        new PeerTask(
            PeerTask.Kind.FORWARD,
            Map.of(),
            "float32",
            1,
            List.of(new int[] {5}, new int[] {6, 7}, new int[] {8}),
            List.of(0, 1, 0),
            2);
    List<PeerTask.Padded> batches = task.padded();
    assertEquals(2, batches.size());
    assertArrayEquals(new long[] {5, 0, 6, 7}, batches.get(0).ids());
    assertArrayEquals(new long[] {1, 0, 1, 1}, batches.get(0).mask());
    assertFalse(batches.get(0).isFull());
    assertTrue(batches.get(1).isFull());
  }

  @Test
  void agreementIsRelativeToEachTensor() {
    List<float[]> expected = List.of(new float[] {3, 4}, new float[] {3000, 4000});
    float[] off = {3, 5, 3000, 4000};
    assertEquals(0.2, Agreement.between(expected, off, 0.1).difference(), 1e-9);
    assertFalse(Agreement.between(expected, off, 0.1).agrees());
    float[] notNumbers = {3, 4, Float.NaN, 4000};
    assertFalse(Agreement.between(expected, notNumbers, 0.1).agrees());
    assertTrue(Agreement.between(expected, new float[] {3, 4, 3000, 4000}, 0).agrees());
    assertThrows(BertologyException.class, () -> Agreement.between(expected, new float[] {3}, 0.1));
  }
}
