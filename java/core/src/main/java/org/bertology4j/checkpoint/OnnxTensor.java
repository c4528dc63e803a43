package org.bertology4j.checkpoint;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.stream.IntStream;
import org.bertology4j.BertologyException;

/**
 * A constant of an ONNX graph, not yet read.
 *
 * @param name its name in the graph; empty for the value of a Constant node
 * @param dataType ONNX's number of its element type
 * @param dims its sizes
 * @param data where its elements are in the file, little-endian, if they are there
 * @param integers its elements, if the graph spells out a few whole numbers
 * @param external where else they are: {@code location}, {@code offset}, {@code length}; empty if
 *     they are in the graph's file
 */
record OnnxTensor(
    String name,
    int dataType,
    List<Long> dims,
    Optional<ProtoReader.Range> data,
    List<Long> integers,
    Map<String, String> external) {

  private static final int MOST_VALUES = 64;

  /** Element types, by ONNX's numbers. */
  enum DataType {
    FLOAT(1, 32),
    UINT8(2, 8),
    INT8(3, 8),
    UINT16(4, 16),
    INT16(5, 16),
    INT32(6, 32),
    INT64(7, 64),
    STRING(8, 0),
    BOOL(9, 8),
    FLOAT16(10, 16),
    DOUBLE(11, 64),
    UINT32(12, 32),
    UINT64(13, 64),
    COMPLEX64(14, 64),
    COMPLEX128(15, 128),
    BFLOAT16(16, 16),
    FLOAT8E4M3FN(17, 8),
    FLOAT8E4M3FNUZ(18, 8),
    FLOAT8E5M2(19, 8),
    FLOAT8E5M2FNUZ(20, 8),
    UINT4(21, 4),
    INT4(22, 4),
    FLOAT4E2M1(23, 4);

    private final int number;
    private final int bits;

    DataType(int number, int bits) {
      this.number = number;
      this.bits = bits;
    }
  }

  /** A tensor; the collections are copied. */
  OnnxTensor {
    dims = List.copyOf(dims);
    integers = List.copyOf(integers);
    external = Map.copyOf(external);
  }

  Optional<DataType> type() {
    return Arrays.stream(DataType.values()).filter(type -> type.number == dataType).findFirst();
  }

  String typeName() {
    return type().map(Enum::name).orElse("number " + dataType);
  }

  Optional<StoredType> storedType() {
    return type()
        .flatMap(
            type ->
                switch (type) {
                  case FLOAT -> Optional.of(StoredType.FLOAT32);
                  case FLOAT16 -> Optional.of(StoredType.FLOAT16);
                  case BFLOAT16 -> Optional.of(StoredType.BFLOAT16);
                  default -> Optional.empty();
                });
  }

  /**
   * Where its elements are.
   *
   * @param model the graph's file
   * @param label what to call the tensor in messages
   */
  Segment segment(DataFiles files, DataFile model, String label) {
    String where = model.path() + ": tensor " + Messages.quote(label);
    OptionalLong expected =
        type()
            .filter(type -> type.bits > 0)
            .map(type -> Shapes.bytes(dims, type.bits))
            .orElse(OptionalLong.empty());
    BertologyException.check(
        expected.isPresent(), "%s: no file can hold %s of shape %s", where, typeName(), dims);
    Segment segment =
        external.isEmpty()
            ? internal(model, where)
            : external(files, model, where, expected.getAsLong());
    BertologyException.check(
        segment.bytes() == expected.getAsLong(),
        "%s has %d bytes, expected %d for %s of shape %s",
        where,
        segment.bytes(),
        expected.getAsLong(),
        typeName(),
        dims);
    segment.checkWithinFile(label);
    return segment;
  }

  private Segment internal(DataFile model, String where) {
    ProtoReader.Range range =
        data.orElseThrow(
            () ->
                new BertologyException(
                    BertologyException.Kind.UNSUPPORTED,
                    where
                        + " is stored element by element; raw_data, packed float_data and external"
                        + " data are supported"));
    return Segment.of(model, range.position(), range.length());
  }

  private Segment external(DataFiles files, DataFile model, String where, long expected) {
    Path folder = model.path().toAbsolutePath().getParent();
    Path path = DataFiles.inside(folder, external.getOrDefault("location", ""), where);
    BertologyException.check(
        Files.exists(path), "%s is in the file %s, which is missing", where, path);
    long offset = externalNumber("offset", 0, where);
    return Segment.of(files.open(path), offset, externalNumber("length", expected, where));
  }

  private long externalNumber(String key, long otherwise, String where) {
    String text = external.getOrDefault(key, String.valueOf(otherwise));
    BertologyException.check(
        text.matches("\\d{1,18}"),
        "%s: the %s of its external data is %s, expected a whole number of 0 or more",
        where,
        key,
        Messages.quote(text));
    return Long.parseLong(text);
  }

  /** The elements of a few whole numbers of 64 bits; empty if it is something else. */
  Optional<List<Long>> readIntegers(DataFile model) {
    if (dataType != DataType.INT64.number) {
      return Optional.empty();
    }
    if (!integers.isEmpty()) {
      return Optional.of(integers);
    }
    return readSmall(model)
        .map(
            bytes ->
                IntStream.range(0, bytes.capacity() / Long.BYTES)
                    .mapToObj(i -> bytes.getLong(i * Long.BYTES))
                    .toList());
  }

  /** The number that the tensor is; empty if it is something else. */
  Optional<Double> readScalar(DataFile model) {
    return readSmall(model)
        .flatMap(
            bytes ->
                switch (type().orElse(DataType.STRING)) {
                  case FLOAT -> Optional.of((double) bytes.getFloat(0));
                  case DOUBLE -> Optional.of(bytes.getDouble(0));
                  case BFLOAT16 ->
                      Optional.of((double) Float.intBitsToFloat(bytes.getShort(0) << 16));
                  case FLOAT16 -> Optional.of((double) float16(bytes.getShort(0)));
                  default -> Optional.empty();
                });
  }

  private Optional<ByteBuffer> readSmall(DataFile model) {
    OptionalLong bytes =
        type().isPresent() ? Shapes.bytes(dims, type().get().bits) : OptionalLong.empty();
    if (bytes.isEmpty()
        || bytes.getAsLong() == 0
        || bytes.getAsLong() > MOST_VALUES * Long.BYTES
        || data.isEmpty()
        || data.get().length() != bytes.getAsLong()) {
      return Optional.empty();
    }
    ByteBuffer values = ByteBuffer.allocate((int) bytes.getAsLong()).order(ByteOrder.LITTLE_ENDIAN);
    model.read(data.get().position(), values);
    return Optional.of(values);
  }

  private static float float16(short bits) {
    int exponent = (bits >> 10) & 0x1f;
    int fraction = bits & 0x3ff;
    float magnitude =
        exponent == 0
            ? fraction * 0x1p-24f
            : exponent == 31
                ? (fraction == 0 ? Float.POSITIVE_INFINITY : Float.NaN)
                : Math.scalb(1 + fraction * 0x1p-10f, exponent - 15);
    return bits < 0 ? -magnitude : magnitude;
  }
}
