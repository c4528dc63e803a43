package org.bertology4j.checkpoint;

import static org.bertology4j.checkpoint.Golden.assertFails;
import static org.bertology4j.checkpoint.Golden.assertInvalid;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SafetensorsFileTest {
  @TempDir Path folder;

  @Test
  void readsTensorsOfWholeNumbers() {
    Path path = Golden.path("old-names/model.safetensors");
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      SafetensorsFile.Tensor ids = file.tensor("bert.embeddings.position_ids");
      assertEquals(SafetensorsType.I64, ids.type());
      assertEquals(List.of(1L, 10L), ids.shape());
      ByteBuffer bytes = ByteBuffer.allocate((int) ids.bytes()).order(ByteOrder.LITTLE_ENDIAN);
      file.read(ids, bytes);
      for (int i = 0; i < 10; i++) {
        assertEquals(i, bytes.getLong(i * Long.BYTES));
      }
      ByteBuffer third = ByteBuffer.allocate(Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
      file.read(ids, 3 * Long.BYTES, third);
      assertEquals(3, third.getLong(0));
      assertInvalid(() -> file.read(ids, 9 * Long.BYTES, ByteBuffer.allocate(9)), "80 bytes", "72");
      assertInvalid(() -> file.tensor("none"), path.toString(), "none");
      assertEquals(Map.of("format", "pt"), file.metadata());
      assertEquals(path, file.path());
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        // header | bytes of data | part of the message
        "{} | 4 | the tensors end at byte 0",
        "[] | 0 | does not begin with '{'",
        "{'a':1} | 0 | JSON",
        "{} {} | 0 | JSON",
        "{\"a\":1} | 0 | JSON",
        "{\"a\":{}} | 0 | no dtype",
        "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}} | 4 | no shape",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}} | 4 | no data_offsets",
        "{\"a\":{\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]}} | 4 | expected a text",
        "{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}} | 4 | F33",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}} | 4 | shape has \"-1\"",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}} | 4 | \"1.0\"",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}} | 4 | STRING",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}} | 4 | has 1 numbers",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}} | 4 | [4, 0]",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}} | 4 | \"-4\"",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}} | 3 | has 3 bytes",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}} | 5 | 5 bytes of data",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}} | 4 | expected 8",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}} | 5 | leave a gap",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}} | 4 | \"x\"",
        "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}} | 4 | there twice",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}} | 0"
            + " | \"4611686018427387904\"",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[100000000000,100000000000],\"data_offsets\":[0,0]}}"
            + " | 0 | a number that fits",
        "{\"__metadata__\":{\"a\":1}} | 0 | expected a text",
        "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}} | 0 | \"a\" is there twice",
      })
  void reportsAHeaderThatIsWrong(String header, int dataBytes, String part) throws IOException {
    Path path = Golden.safetensors(folder.resolve("model.safetensors"), header, dataBytes);
    assertInvalid(() -> SafetensorsFile.open(path).close(), path.toString(), part);
  }

  @Test
  void reportsTensorsThatOverlapOrHaveOneName() throws IOException {
    String a = "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}";
    String b = "\"b\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[4,12]}";
    Path path = Golden.safetensors(folder.resolve("x"), "{" + a + "," + b + "}", 12);
    assertInvalid(() -> SafetensorsFile.open(path).close(), "\"b\"", "byte 4", "overlap");
    Path twice = Golden.safetensors(folder.resolve("y"), "{" + a + "," + a + "}", 8);
    assertInvalid(() -> SafetensorsFile.open(twice).close(), "\"a\" is there twice");
  }

  @Test
  void reportsLengthsThatAreWrong() throws IOException {
    Path shorter = Files.write(folder.resolve("short"), new byte[7]);
    assertInvalid(() -> SafetensorsFile.open(shorter).close(), "7 bytes", "8 bytes");
    Path empty = Files.write(folder.resolve("empty"), new byte[8]);
    assertInvalid(() -> SafetensorsFile.open(empty).close(), "does not begin with");
    Path beyond = Files.write(folder.resolve("beyond"), new byte[] {9, 0, 0, 0, 0, 0, 0, 0, '{'});
    assertInvalid(() -> SafetensorsFile.open(beyond).close(), "length is 9", "9 bytes");
    Path negative =
        Files.write(folder.resolve("negative"), new byte[] {0, 0, 0, 0, 0, 0, 0, -1, '{', '}'});
    assertInvalid(() -> SafetensorsFile.open(negative).close(), "18374686479671623680");
  }

  @Test
  void reportsAHeaderThatIsTooLarge() throws IOException {
    Path path = folder.resolve("large");
    try (FileChannel file =
        FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
      ByteBuffer beginning = ByteBuffer.allocate(9).order(ByteOrder.LITTLE_ENDIAN);
      file.write(beginning.putLong(100_000_001).put((byte) '{').flip());
      // A hole: it takes no space.
      file.write(ByteBuffer.allocate(1), 100_000_001 + 7);
    }
    assertInvalid(
        () -> SafetensorsFile.open(path).close(),
        path.toString(),
        "length is 100000001, expected at most 100000000");
  }

  @Test
  void reportsAHeaderThatIsNotUtf8() throws IOException {
    byte[] file = {8, 0, 0, 0, 0, 0, 0, 0, '{', '"', (byte) 0xc3, '(', '"', ':', '1', '}'};
    Path path = Files.write(folder.resolve("x"), file);
    assertInvalid(() -> SafetensorsFile.open(path).close(), path.toString(), "not valid UTF-8");
  }

  @Test
  void readsEmptyTensorsAndNoMetadata() throws IOException {
    Path path =
        Golden.safetensors(
            folder.resolve("x"),
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[0,8],\"data_offsets\":[0,0]},"
                + "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}   ",
            4);
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      assertEquals(List.of(0L, 8L), file.tensor("a").shape());
      assertEquals(4, file.tensor("b").bytes());
      assertEquals(Map.of(), file.metadata());
    }
  }

  @Test
  void reportsFilesThatCannotBeRead() {
    Path missing = folder.resolve("missing.safetensors");
    assertFails(Kind.IO, () -> SafetensorsFile.open(missing).close(), missing.toString());
    assertFails(Kind.IO, () -> SafetensorsFile.open(folder).close(), folder.toString());
  }
}
