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

  private static ByteBuffer bytes(int... values) {
    ByteBuffer bytes = ByteBuffer.allocate(values.length);
    for (int value : values) {
      bytes.put((byte) value);
    }
    return bytes.flip();
  }

  private static byte[] content(SafetensorsFile file, String name) {
    SafetensorsFile.Tensor tensor = file.tensor(name);
    ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes());
    file.read(tensor, bytes);
    return bytes.array();
  }

  private static final List<SafetensorsWriter.Tensor> PIECES =
      List.of(
          new SafetensorsWriter.Tensor("half", SafetensorsType.F16, List.of(2L, 2L)),
          new SafetensorsWriter.Tensor("none", SafetensorsType.F32, List.of(0L, 3L)),
          new SafetensorsWriter.Tensor("wide", SafetensorsType.I64, List.of(1L)),
          new SafetensorsWriter.Tensor("untouched", SafetensorsType.F32, List.of(1L)));

  @Test
  void piecesComeInAnyOrder() throws IOException {
    Path target = Files.writeString(folder.resolve("x.safetensors"), "old");
    SafetensorsWriter.writePieces(
        target,
        Map.of("k", "v"),
        PIECES,
        pieces -> {
          pieces.write("wide", 6, bytes(7, 8));
          pieces.write("half", 4, bytes(5, 6, 7, 8));
          ByteBuffer part = bytes(0, 0, 9, 9, 0).position(2).limit(4);
          pieces.write("half", 1, part);
          assertEquals(0, part.remaining());
          pieces.write("half", 1, bytes(2)); // a piece may be written again
          pieces.write("none", 0, bytes());
          assertEquals("old", Files.readString(target), "nothing is seen before the end");
        });
    try (SafetensorsFile file = SafetensorsFile.open(target)) {
      assertEquals(Map.of("k", "v"), file.metadata());
      assertEquals(4, file.tensors().size());
      assertEquals(List.of(2L, 2L), file.tensor("half").shape());
      assertEquals(0, file.tensor("wide").offset() % 8);
      assertArrayEquals(new byte[] {0, 2, 9, 0, 5, 6, 7, 8}, content(file, "half"));
      assertArrayEquals(new byte[] {0, 0, 0, 0, 0, 0, 7, 8}, content(file, "wide"));
      assertArrayEquals(new byte[4], content(file, "untouched"));
    }
    assertEquals(List.of("x.safetensors"), list());
  }

  @Test
  void piecesWithoutContentAreAFileToo() {
    Path target = folder.resolve("model.safetensors");
    SafetensorsWriter.writePieces(target, Map.of(), List.of(), pieces -> {});
    try (SafetensorsFile file = SafetensorsFile.open(target)) {
      assertEquals(Map.of(), file.tensors());
    }
    SafetensorsWriter.writePieces(target, Map.of(), PIECES.subList(1, 2), pieces -> {});
    try (SafetensorsFile file = SafetensorsFile.open(target)) {
      assertEquals(List.of(0L, 3L), file.tensor("none").shape());
    }
  }

  @Test
  void piecesOutsideTheirTensorLeaveTheOldFile() throws IOException {
    Path target = Files.writeString(folder.resolve("model.safetensors"), "old");
    record Piece(String name, long offset, int bytes) {}
    for (Piece piece :
        List.of(
            new Piece("half", 7, 2),
            new Piece("half", 9, 0),
            new Piece("half", -1, 1),
            new Piece("half", Long.MAX_VALUE, 1),
            new Piece("none", 0, 1),
            new Piece("nobody", 0, 0))) {
      assertInvalid(
          () ->
              SafetensorsWriter.writePieces(
                  target,
                  Map.of(),
                  PIECES,
                  pieces ->
                      pieces.write(
                          piece.name(), piece.offset(), ByteBuffer.allocate(piece.bytes()))),
          "a piece of " + piece.bytes() + " bytes at byte " + piece.offset(),
          "\"" + piece.name() + "\"");
      assertUntouched(target);
    }
    assertFails(
        Kind.IO,
        () ->
            SafetensorsWriter.writePieces(
                target,
                Map.of(),
                PIECES,
                pieces -> {
                  pieces.write("half", 0, bytes(1));
                  throw new IOException("No space left on device");
                }),
        target.toString(),
        "No space left on device");
    assertUntouched(target);
    List<SafetensorsWriter.Tensor> twice = List.of(PIECES.get(0), PIECES.get(0));
    assertInvalid(
        () -> SafetensorsWriter.writePieces(target, Map.of(), twice, pieces -> {}),
        "\"half\"",
        "taken");
    assertUntouched(target);
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
