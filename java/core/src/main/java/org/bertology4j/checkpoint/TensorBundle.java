package org.bertology4j.checkpoint;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import org.bertology4j.BertologyException;

/** The variables of a TensorFlow bundle: an index, and the files of data that it names. */
final class TensorBundle {
  static final String INDEX_SUFFIX = ".index";

  private static final int MOST_SHARDS = 99_999;
  private static final int MOST_DIMENSIONS = 254; // TensorFlow's own limit

  private final DataFiles files;
  private final DataFile index;
  private final String prefix;
  private final Map<String, Variable> variables = new LinkedHashMap<>();
  private int shards;

  /** Element types by TensorFlow's numbers; only those of weights can be read. */
  private enum DataType {
    FLOAT(1, StoredType.FLOAT32),
    DOUBLE(2),
    INT32(3),
    UINT8(4),
    INT16(5),
    INT8(6),
    STRING(7),
    COMPLEX64(8),
    INT64(9),
    BOOL(10),
    QINT8(11),
    QUINT8(12),
    QINT32(13),
    BFLOAT16(14, StoredType.BFLOAT16),
    HALF(19, StoredType.FLOAT16);

    private final int number;
    private final Optional<StoredType> stored;

    DataType(int number) {
      this.number = number;
      this.stored = Optional.empty();
    }

    DataType(int number, StoredType stored) {
      this.number = number;
      this.stored = Optional.of(stored);
    }

    static Optional<DataType> of(int number) {
      return Arrays.stream(values()).filter(type -> type.number == number).findFirst();
    }
  }

  /**
   * A variable.
   *
   * @param type its type, if it is one that weights may have
   * @param sliced whether it was stored in parts
   */
  record Variable(
      String name,
      String typeName,
      Optional<StoredType> type,
      List<Long> shape,
      int shard,
      long offset,
      long bytes,
      int crc32c,
      boolean sliced) {}

  private TensorBundle(DataFiles files, DataFile index) {
    this.files = files;
    this.index = index;
    String path = index.path().getFileName().toString();
    this.prefix = path.substring(0, path.length() - INDEX_SUFFIX.length());
  }

  /** Reads the index; the files of data are opened when a segment of theirs is asked for. */
  static TensorBundle open(DataFiles files, Path index) {
    TensorBundle bundle = new TensorBundle(files, files.open(index));
    bundle.read();
    return bundle;
  }

  Map<String, Variable> variables() {
    return variables;
  }

  private void read() {
    Map<String, byte[]> entries = SortedTable.read(index);
    byte[] header = entries.remove("");
    BertologyException.check(header != null, "%s has no header entry", index.path());
    readHeader(reader(header, "header"));
    entries.forEach((name, value) -> variables.put(name, readVariable(name, reader(value, name))));
  }

  private ProtoReader reader(byte[] message, String name) {
    return new ProtoReader(
        ByteSource.of(message),
        new ProtoReader.Range(0, message.length),
        index.path() + ": entry " + Messages.quote(name));
  }

  private void readHeader(ProtoReader header) {
    int endianness = 0;
    while (header.next()) {
      switch (header.field()) {
        case 1 -> shards = header.readInt();
        case 2 -> endianness = header.readInt();
        default -> {}
      }
    }
    BertologyException.check(
        shards > 0 && shards <= MOST_SHARDS,
        "%s names %d files of data, expected 1 to %d",
        index.path(),
        shards,
        MOST_SHARDS);
    if (endianness != 0) {
      throw new BertologyException(
          BertologyException.Kind.UNSUPPORTED,
          index.path() + ": the data are big-endian; little-endian is supported");
    }
  }

  private Variable readVariable(String name, ProtoReader entry) {
    int type = 0;
    List<Long> shape = List.of();
    int shard = 0;
    long offset = 0;
    long bytes = 0;
    int crc = 0;
    boolean sliced = false;
    while (entry.next()) {
      switch (entry.field()) {
        case 1 -> type = entry.readInt();
        case 2 -> shape = readShape(entry.readMessage());
        case 3 -> shard = entry.readInt();
        case 4 -> offset = entry.readLong();
        case 5 -> bytes = entry.readLong();
        case 6 -> crc = entry.readFixed32();
        case 7 -> sliced = true;
        default -> {}
      }
    }
    Optional<DataType> known = DataType.of(type);
    String typeName = known.map(Enum::name).orElse("number " + type);
    Optional<StoredType> stored = known.flatMap(found -> found.stored);
    return new Variable(
        name, typeName, stored, shape, shard, offset, bytes, SortedTable.unmasked(crc), sliced);
  }

  private static List<Long> readShape(ProtoReader shape) {
    List<Long> sizes = new ArrayList<>();
    while (shape.next()) {
      if (shape.field() == 2) {
        sizes.add(readSize(shape.readMessage()));
        if (sizes.size() > MOST_DIMENSIONS) {
          throw shape.damaged("a shape of more than " + MOST_DIMENSIONS + " dimensions");
        }
      }
    }
    return sizes;
  }

  private static long readSize(ProtoReader dimension) {
    long size = 0;
    while (dimension.next()) {
      if (dimension.field() == 1) {
        size = dimension.readLong();
      }
    }
    return size;
  }

  /** Where the bytes of a variable of a readable type are. */
  Segment segment(Variable variable) {
    String name = index.path() + ": variable " + Messages.quote(variable.name());
    if (variable.sliced()) {
      throw new BertologyException(
          BertologyException.Kind.UNSUPPORTED,
          name + " is partitioned: save it in one piece, without a partitioner");
    }
    OptionalLong expected =
        Shapes.bytes(variable.shape(), 8 * variable.type().orElseThrow().bytes());
    BertologyException.check(
        expected.isPresent() && expected.getAsLong() == variable.bytes(),
        "%s has %d bytes, expected %s for %s of shape %s",
        name,
        variable.bytes(),
        expected.isPresent() ? String.valueOf(expected.getAsLong()) : "a number that fits",
        variable.typeName(),
        variable.shape());
    BertologyException.check(
        variable.shard() >= 0 && variable.shard() < shards,
        "%s is in file %d of data, expected 0 to %d",
        name,
        variable.shard(),
        shards - 1);
    String data = String.format("%s.data-%05d-of-%05d", prefix, variable.shard(), shards);
    Path path = index.path().resolveSibling(data);
    BertologyException.check(
        Files.exists(path), "%s is in the file %s, which is missing", name, path);
    Segment segment =
        new Segment(
            files.open(path),
            variable.offset(),
            variable.bytes(),
            OptionalInt.of(variable.crc32c()));
    segment.checkWithinFile(variable.name());
    return segment;
  }
}
