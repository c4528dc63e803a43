package org.bertology4j.cli;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.bertology4j.BertologyException;
import org.bertology4j.HeadScores;
import org.bertology4j.checkpoint.AtomicFiles;

/** Matrices of float32 in NumPy's file format, version 1.0. */
final class Npy {
  private static final byte[] MAGIC = {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y'};
  private static final int PREFIX = 10;
  private static final int ALIGNMENT = 64;
  private static final Pattern HEADER =
      Pattern.compile(
          "\\{'descr': '<f([48])', 'fortran_order': False, 'shape': \\((\\d+), (\\d+)\\), \\}\\s*");

  private Npy() {}

  /** Writes scores as float32, [layers, heads]; NaN where a head has none. */
  static void write(Path file, HeadScores scores) {
    float[][] rows = new float[scores.layers()][scores.heads()];
    for (int l = 0; l < rows.length; l++) {
      for (int h = 0; h < rows[l].length; h++) {
        rows[l][h] = (float) scores.get(l, h);
      }
    }
    write(file, rows);
  }

  /** Writes a matrix. */
  static void write(Path file, float[][] rows) {
    String header =
        String.format(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }",
            rows.length, rows[0].length);
    int length = (PREFIX + header.length() + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    ByteBuffer bytes =
        ByteBuffer.allocate(length + rows.length * rows[0].length * Float.BYTES)
            .order(ByteOrder.LITTLE_ENDIAN);
    bytes.put(MAGIC).put((byte) 1).put((byte) 0).putShort((short) (length - PREFIX));
    bytes.put(header.getBytes(StandardCharsets.US_ASCII));
    while (bytes.position() < length - 1) {
      bytes.put((byte) ' ');
    }
    bytes.put((byte) '\n');
    for (float[] row : rows) {
      for (float value : row) {
        bytes.putFloat(value);
      }
    }
    AtomicFiles.write(file, bytes.array());
  }

  /** Reads a matrix of float32 or float64. */
  static float[][] read(Path file) {
    ByteBuffer bytes;
    try {
      bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be read: %s", file, e);
    }
    BertologyException.check(
        bytes.capacity() >= PREFIX && Arrays.equals(Arrays.copyOf(bytes.array(), 6), MAGIC),
        "%s is not a NumPy file",
        file);
    int headerLength = Short.toUnsignedInt(bytes.getShort(8));
    BertologyException.check(
        bytes.capacity() >= PREFIX + headerLength, "%s ends in its header", file);
    String header = new String(bytes.array(), PREFIX, headerLength, StandardCharsets.ISO_8859_1);
    Matcher matcher = HEADER.matcher(header);
    BertologyException.check(
        matcher.matches(),
        "%s: its header is %s, expected a matrix of float32 or float64 in C order",
        file,
        header.strip());
    int size = Integer.parseInt(matcher.group(1));
    long rows = Long.parseLong(matcher.group(2));
    long columns = Long.parseLong(matcher.group(3));
    bytes.position(PREFIX + headerLength);
    BertologyException.check(
        rows > 0
            && columns > 0
            && rows <= bytes.remaining()
            && columns <= bytes.remaining()
            && rows * columns * size == bytes.remaining(),
        "%s: %d bytes of data for %d rows of %d columns",
        file,
        bytes.remaining(),
        rows,
        columns);
    float[][] values = new float[(int) rows][(int) columns];
    for (float[] row : values) {
      for (int i = 0; i < row.length; i++) {
        row[i] = size == 4 ? bytes.getFloat() : (float) bytes.getDouble();
      }
    }
    return values;
  }
}
