package org.bertology4j.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URISyntaxException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.bertology4j.BertologyException;
import org.junit.jupiter.api.function.Executable;

/** The golden files, and what tests do with checkpoints. */
final class Golden {
  private Golden() {}

  static Path path(String name) {
    try {
      return Path.of(Golden.class.getResource("/checkpoint/" + name).toURI());
    } catch (URISyntaxException e) {
      throw new IllegalStateException(e);
    }
  }

  /** Copies a golden folder, to be changed. */
  static Path copy(String name, Path target) {
    Path source = path(name);
    try (Stream<Path> paths = Files.walk(source)) {
      for (Path path : paths.toList()) {
        Path copy = target.resolve(source.relativize(path).toString());
        if (Files.isDirectory(path)) {
          Files.createDirectories(copy);
        } else {
          Files.copy(path, copy);
        }
      }
      return target;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The values of a tensor as its shape says, row by row. */
  static float[] values(Checkpoint checkpoint, String name) {
    StoredTensor tensor = checkpoint.tensors().get(name);
    ByteBuffer bytes = ByteBuffer.allocateDirect((int) tensor.bytes());
    checkpoint.read(tensor, bytes);
    assertEquals(0, bytes.remaining());
    bytes.flip().order(ByteOrder.LITTLE_ENDIAN);
    float[] stored = new float[(int) tensor.elements()];
    for (int i = 0; i < stored.length; i++) {
      stored[i] =
          switch (tensor.type()) {
            case FLOAT32 -> bytes.getFloat();
            case FLOAT16 -> float16(bytes.getShort());
            case BFLOAT16 -> Float.intBitsToFloat(bytes.getShort() << 16);
          };
    }
    if (!tensor.transposed()) {
      return stored;
    }
    int rows = tensor.shape().get(0).intValue();
    int columns = tensor.shape().get(1).intValue();
    float[] values = new float[stored.length];
    for (int i = 0; i < stored.length; i++) {
      values[i % rows * columns + i / rows] = stored[i];
    }
    return values;
  }

  private static float float16(short bits) {
    int exponent = (bits >> 10) & 0x1f;
    float fraction = (bits & 0x3ff) * 0x1p-10f;
    float magnitude =
        exponent == 0 ? Math.scalb(fraction, -14) : Math.scalb(1 + fraction, exponent - 15);
    return bits < 0 ? -magnitude : magnitude;
  }

  /**
   * Both must have the same tensors, but for those that are named.
   *
   * @param tolerance relative to each value
   */
  static void assertSameWeights(
      Checkpoint expected, Checkpoint actual, double tolerance, String... onlyInActual) {
    TreeSet<String> names = new TreeSet<>(expected.tensors().keySet());
    names.addAll(List.of(onlyInActual));
    assertEquals(names, new TreeSet<>(actual.tensors().keySet()));
    expected
        .tensors()
        .forEach(
            (name, tensor) -> {
              assertEquals(tensor.shape(), actual.tensors().get(name).shape(), name);
              float[] wanted = values(expected, name);
              float[] found = values(actual, name);
              if (tolerance == 0) {
                assertArrayEquals(wanted, found, name);
                return;
              }
              for (int i = 0; i < wanted.length; i++) {
                assertEquals(
                    wanted[i], found[i], Math.max(Math.abs(wanted[i]), 0x1p-14) * tolerance, name);
              }
            });
  }

  /** An exception of this kind, whose text has these parts. */
  static void assertFails(BertologyException.Kind kind, Executable body, String... parts) {
    BertologyException e = assertThrows(BertologyException.class, body);
    assertEquals(kind, e.kind(), e.getMessage());
    for (String part : parts) {
      assertTrue(e.getMessage().contains(part), () -> part + " is not in: " + e.getMessage());
    }
  }

  static void assertInvalid(Executable body, String... parts) {
    assertFails(BertologyException.Kind.INVALID_ARGUMENT, body, parts);
  }

  static void assertUnsupported(Executable body, String... parts) {
    assertFails(BertologyException.Kind.UNSUPPORTED, body, parts);
  }

  /** Opens, and closes at once. */
  static void open(Path path) {
    Checkpoint.open(path).close();
  }

  /** A safetensors file of a header and so many bytes of data. */
  static Path safetensors(Path target, String header, int dataBytes) throws IOException {
    byte[] text = header.getBytes(StandardCharsets.UTF_8);
    ByteBuffer file =
        ByteBuffer.allocate(8 + text.length + dataBytes).order(ByteOrder.LITTLE_ENDIAN);
    file.putLong(text.length).put(text);
    return Files.write(target, file.array());
  }
}
