package org.bertology4j.cli;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.bertology4j.BertologyException;
import org.bertology4j.HeadScores;
import org.bertology4j.checkpoint.AtomicFiles;

/** Matrices in NumPy's file format, version 1.0. */
final class Npy {
  private static final byte[] MAGIC = {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y'};
  private static final int VERSION = MAGIC.length;
  private static final int HEADER_LENGTH = VERSION + 2;
  private static final int PREFIX = HEADER_LENGTH + 2;
  private static final int ALIGNMENT = 64;
  private static final Pattern HEADER =
      Pattern.compile(
          "\\{\\s*'descr':\\s*'(?<type>[^']*)',\\s*'fortran_order':\\s*(?<byColumn>True|False),"
              + "\\s*'shape':\\s*\\((?<rows>\\d{1,9}),\\s*(?<columns>\\d{1,9})\\),?\\s*\\}\\s*");

  /** How a number of a type is stored. */
  private record Type(int bytes, Reader reader) {
    private interface Reader {
      double next(ByteBuffer bytes);
    }
  }

  /** The types of masks that people make. */
  private static final Map<String, Type> TYPES =
      Map.of(
          "<f4", new Type(Float.BYTES, ByteBuffer::getFloat),
          "<f8", new Type(Double.BYTES, ByteBuffer::getDouble),
          "<i4", new Type(Integer.BYTES, ByteBuffer::getInt),
          "<i8", new Type(Long.BYTES, ByteBuffer::getLong),
          "|i1", new Type(Byte.BYTES, ByteBuffer::get),
          "|u1", new Type(Byte.BYTES, bytes -> Byte.toUnsignedInt(bytes.get())),
          "|b1", new Type(Byte.BYTES, ByteBuffer::get));

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

  /** Writes a matrix as float32. */
  static void write(Path file, float[][] rows) {
    String header =
        String.format(
            Locale.ROOT,
            "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }",
            rows.length,
            rows[0].length);
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

  /** Reads a matrix of floating-point numbers, whole numbers or truth values. */
  static float[][] read(Path file) {
    ByteBuffer bytes = ByteBuffer.wrap(readAll(file)).order(ByteOrder.LITTLE_ENDIAN);
    BertologyException.check(
        bytes.capacity() >= PREFIX
            && Arrays.equals(Arrays.copyOf(bytes.array(), MAGIC.length), MAGIC),
        "%s is not a NumPy file",
        file);
    BertologyException.check(
        bytes.get(VERSION) == 1,
        "%s: NumPy's format is of version %d, expected 1",
        file,
        bytes.get(VERSION));
    int headerLength = Short.toUnsignedInt(bytes.getShort(HEADER_LENGTH));
    BertologyException.check(
        bytes.capacity() >= PREFIX + headerLength, "%s ends in its header", file);
    String header = new String(bytes.array(), PREFIX, headerLength, StandardCharsets.ISO_8859_1);
    bytes.position(PREFIX + headerLength);
    Matcher matcher = HEADER.matcher(header);
    BertologyException.check(
        matcher.matches() && TYPES.containsKey(matcher.group("type")),
        "%s holds %s, expected a matrix of one of the types %s",
        file,
        header.strip(),
        TYPES.keySet().stream().sorted().toList());
    Type type = Objects.requireNonNull(TYPES.get(matcher.group("type")));
    long rows = Long.parseLong(matcher.group("rows"));
    long columns = Long.parseLong(matcher.group("columns"));
    BertologyException.check(
        rows > 0 && columns > 0 && rows * columns * type.bytes() == bytes.remaining(),
        "%s: %d bytes of data for %d rows of %d columns of %d bytes",
        file,
        bytes.remaining(),
        rows,
        columns,
        type.bytes());
    boolean byColumn = matcher.group("byColumn").equals("True");
    return values(bytes, type, (int) rows, (int) columns, byColumn);
  }

  private static byte[] readAll(Path file) {
    try {
      return Files.readAllBytes(file);
    } catch (NoSuchFileException e) {
      throw BertologyException.io(e, "%s does not exist", file);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be read: %s", file, e);
    }
  }

  private static float[][] values(
      ByteBuffer bytes, Type type, int rows, int columns, boolean byColumn) {
    float[][] values = new float[rows][columns];
    for (int i = 0; i < rows * columns; i++) {
      int row = byColumn ? i % rows : i / columns;
      int column = byColumn ? i / rows : i % columns;
      values[row][column] = (float) type.reader().next(bytes);
    }
    return values;
  }
}
