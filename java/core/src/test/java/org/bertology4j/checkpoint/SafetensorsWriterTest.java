package org.bertology4j.checkpoint;

import static org.bertology4j.checkpoint.Golden.assertFails;
import static org.bertology4j.checkpoint.Golden.assertInvalid;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.WritableByteChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SafetensorsWriterTest {
  @TempDir Path folder;

  private static SafetensorsWriter.Entry entry(
      String name, SafetensorsType type, long elements, int fill) {
    byte[] bytes = new byte[(int) elements * type.bits() / 8];
    Arrays.fill(bytes, (byte) fill);
    return SafetensorsWriter.Entry.of(name, type, List.of(elements), ByteBuffer.wrap(bytes));
  }

  @Test
  void writesWhatTheReaderReads() throws IOException {
    Path target = folder.resolve("model.safetensors");
    SafetensorsWriter.write(
        target,
        SafetensorsWriter.HUGGING_FACE_METADATA,
        List.of(
            entry("half", SafetensorsType.F16, 3, 1),
            entry("z", SafetensorsType.F32, 2, 2),
            entry("ids \"é\"\u2028", SafetensorsType.I64, 2, 3),
            entry("a", SafetensorsType.F32, 1, 4),
            entry("none", SafetensorsType.BF16, 0, 0)));
    try (SafetensorsFile file = SafetensorsFile.open(target)) {
      assertEquals(Map.of("format", "pt"), file.metadata());
      // Wide elements come first; the order is kept otherwise.
      List<String> names = new ArrayList<>(file.tensors().keySet());
      assertEquals(List.of("ids \"é\"\u2028", "z", "a"), names.subList(0, 3));
      for (SafetensorsFile.Tensor tensor : file.tensors().values()) {
        assertEquals(0, tensor.offset() % (tensor.type().bits() / 8), tensor.name());
      }
      assertEquals(0, file.tensor("ids \"é\"\u2028").offset() % 8);
      ByteBuffer z = ByteBuffer.allocate(8);
      file.read(file.tensor("z"), z);
      assertArrayEquals(new byte[] {2, 2, 2, 2, 2, 2, 2, 2}, z.array());
    }
    assertEquals(List.of("model.safetensors"), list());
  }

  @Test
  void copiesAGoldenFileByteForByte() throws IOException {
    Path source = Golden.path("encoder/model.safetensors");
    Path target = folder.resolve("model.safetensors");
    try (SafetensorsFile file = SafetensorsFile.open(source)) {
      SafetensorsWriter.write(
          target,
          file.metadata(),
          file.tensors().values().stream()
              .map(
                  tensor ->
                      new SafetensorsWriter.Entry(
                          tensor.name(),
                          tensor.type(),
                          tensor.shape(),
                          channel -> copyInPieces(file, tensor, channel)))
              .toList());
    }
    assertArrayEquals(Files.readAllBytes(source), Files.readAllBytes(target));
  }

  private static void copyInPieces(
      SafetensorsFile file, SafetensorsFile.Tensor tensor, WritableByteChannel channel)
      throws IOException {
    for (long from = 0; from < tensor.bytes(); ) {
      ByteBuffer piece = ByteBuffer.allocate((int) Math.min(100, tensor.bytes() - from));
      file.read(tensor, from, piece);
      from += piece.position();
      channel.write(piece.flip());
    }
  }

  @Test
  void leavesTheOldFileWhenAContentFails() throws IOException {
    Path target = Files.writeString(folder.resolve("model.safetensors"), "old");
    SafetensorsWriter.Entry full =
        new SafetensorsWriter.Entry(
            "b",
            SafetensorsType.F32,
            List.of(1000L),
            channel -> {
              channel.write(ByteBuffer.allocate(100));
              throw new IOException("No space left on device");
            });
    assertFails(
        Kind.IO,
        () ->
            SafetensorsWriter.write(
                target, Map.of(), List.of(entry("a", SafetensorsType.F32, 1, 1), full)),
        target.toString(),
        "cannot write 4",
        "No space left on device");
    assertUntouched(target);

    SafetensorsWriter.Entry broken =
        new SafetensorsWriter.Entry(
            "b",
            SafetensorsType.F32,
            List.of(1L),
            channel -> {
              throw new IllegalStateException("broken");
            });
    assertThrows(
        IllegalStateException.class,
        () -> SafetensorsWriter.write(target, Map.of(), List.of(broken)));
    assertUntouched(target);
  }

  @Test
  void wantsContentsOfTheRightSize() throws IOException {
    Path target = Files.writeString(folder.resolve("model.safetensors"), "old");
    for (int bytes : new int[] {3, 5}) {
      SafetensorsWriter.Entry wrong =
          SafetensorsWriter.Entry.of(
              "a", SafetensorsType.F32, List.of(1L), ByteBuffer.allocate(bytes));
      assertInvalid(
          () -> SafetensorsWriter.write(target, Map.of(), List.of(wrong)),
          "\"a\"",
          bytes + " bytes",
          "expected 4");
      assertUntouched(target);
    }
  }

  @Test
  void wantsNamesAndShapesThatAFileCanHave() {
    Path target = folder.resolve("model.safetensors");
    SafetensorsWriter.Entry a = entry("a", SafetensorsType.F32, 1, 1);
    assertInvalid(() -> SafetensorsWriter.write(target, Map.of(), List.of(a, a)), "\"a\"");
    SafetensorsWriter.Entry taken = entry("__metadata__", SafetensorsType.F32, 1, 1);
    assertInvalid(() -> SafetensorsWriter.write(target, Map.of(), List.of(taken)), "taken");
    SafetensorsWriter.Entry large =
        new SafetensorsWriter.Entry(
            "a", SafetensorsType.F32, List.of(1L << 40, 1L << 40), channel -> {});
    assertInvalid(() -> SafetensorsWriter.write(target, Map.of(), List.of(large)), "no file");
    SafetensorsWriter.Entry negative =
        new SafetensorsWriter.Entry("a", SafetensorsType.F32, List.of(-1L), channel -> {});
    assertInvalid(() -> SafetensorsWriter.write(target, Map.of(), List.of(negative)), "[-1]");
  }

  private void assertUntouched(Path target) throws IOException {
    assertEquals("old", Files.readString(target));
    assertEquals(List.of("model.safetensors"), list());
  }

  private List<String> list() throws IOException {
    try (Stream<Path> paths = Files.list(folder)) {
      return paths.map(path -> path.getFileName().toString()).toList();
    }
  }
}
