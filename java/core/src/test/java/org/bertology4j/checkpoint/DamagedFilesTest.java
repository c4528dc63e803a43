package org.bertology4j.checkpoint;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.function.UnaryOperator;
import org.bertology4j.BertologyException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Whatever is in a file, only a BertologyException may come out of it. */
@Timeout(600)
class DamagedFilesTest {
  private static final int ROUNDS = Integer.getInteger("bertology.test.rounds", 500);

  @TempDir Path folder;

  @ParameterizedTest
  @CsvSource({
    "encoder,model.safetensors",
    "encoder,config.json",
    "sharded,model.safetensors.index.json",
    "sharded,model-00001-of-00002.safetensors",
    "onnx-external,model.onnx",
    "tensorflow,bert_config.json",
    "tensorflow,bert_model.ckpt.index",
    "tensorflow,bert_model.ckpt.data-00000-of-00001"
  })
  void damagedFilesAreReported(String golden, String file) throws IOException {
    Golden.copy(golden, folder);
    damage(folder.resolve(file), UnaryOperator.identity());
  }

  @ParameterizedTest
  @CsvSource({
    "script-encoder.onnx",
    "dynamo-sequence-classification.onnx",
    "script-masked-lm.onnx"
  })
  void damagedExportsAreReported(String name) throws IOException {
    Path model = Files.copy(Golden.path("onnx/" + name), folder.resolve("model.onnx"));
    damage(model, UnaryOperator.identity());
  }

  @Test
  void damagedTablesWithRightSumsAreReported() throws IOException {
    Golden.copy("tensorflow", folder);
    Path index = folder.resolve("bert_model.ckpt.index");
    byte[] table;
    try (DataFile file = DataFile.open(index)) {
      table = TableBytes.of(SortedTable.read(file), 0);
    }
    Files.write(index, table);
    damage(index, TableBytes::withRightSums);
  }

  /** Changes a file in many ways, each time from its original state. */
  private void damage(Path file, UnaryOperator<byte[]> repair) throws IOException {
    byte[] original = Files.readAllBytes(file);
    Random random = new Random(42);
    int reported = 0;
    for (int round = 0; round < ROUNDS; round++) {
      byte[] damaged = damaged(original, random);
      Files.write(file, repair.apply(damaged));
      try (Checkpoint checkpoint = Checkpoint.open(folder)) {
        for (StoredTensor tensor : checkpoint.tensors().values()) {
          checkpoint.read(tensor, ByteBuffer.allocate((int) tensor.bytes()));
        }
      } catch (BertologyException e) {
        assertTrue(e.kind() != BertologyException.Kind.INTERNAL, e.getMessage());
        reported++;
      } catch (RuntimeException | Error e) {
        fail("round " + round + " of " + file.getFileName(), e);
      }
    }
    assertTrue(reported > ROUNDS / 50, reported + " of " + ROUNDS + " were noticed");
  }

  private static byte[] damaged(byte[] original, Random random) {
    byte[] bytes = original.clone();
    switch (random.nextInt(6)) {
      case 0 -> bytes = Arrays.copyOf(bytes, random.nextInt(bytes.length));
      case 1 -> bytes = Arrays.copyOf(bytes, bytes.length + 1 + random.nextInt(100));
      case 2 -> {
        // Lengths and sizes are likely to be hit near the beginning.
        int at = random.nextInt(Math.min(bytes.length, 64));
        bytes[at] = (byte) random.nextInt();
      }
      case 3 -> {
        int at = random.nextInt(bytes.length);
        int count = Math.min(bytes.length - at, 1 + random.nextInt(10));
        Arrays.fill(bytes, at, at + count, (byte) 0xff);
      }
      case 4 -> {
        int from = random.nextInt(bytes.length);
        int to = random.nextInt(bytes.length);
        int count = random.nextInt(Math.min(200, bytes.length - Math.max(from, to)) + 1);
        System.arraycopy(original, from, bytes, to, count);
      }
      default -> {
        for (int i = 1 + random.nextInt(8); i > 0; i--) {
          bytes[random.nextInt(bytes.length)] ^= (byte) (1 << random.nextInt(8));
        }
      }
    }
    return bytes;
  }
}
