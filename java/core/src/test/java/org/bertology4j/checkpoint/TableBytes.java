package org.bertology4j.checkpoint;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.zip.CRC32C;

/** Writes tables of LevelDB's format, of one block, and puts their checksums right. */
final class TableBytes {
  private TableBytes() {}

  /**
   * A table of these entries.
   *
   * @param compression the number that the blocks have for it; they are not compressed
   */
  static byte[] of(Map<String, byte[]> entries, int compression) {
    ByteArrayOutputStream file = new ByteArrayOutputStream();
    byte[] data = writeBlock(file, new TreeMap<>(entries), compression);
    byte[] filters = writeBlock(file, Map.of(), compression);
    byte[] index = writeBlock(file, Map.of("~", data), compression);
    ByteBuffer footer = ByteBuffer.allocate(48).order(ByteOrder.LITTLE_ENDIAN);
    footer.put(filters).put(index).putLong(40, 0xdb4775248b80fb57L);
    file.writeBytes(footer.array());
    return file.toByteArray();
  }

  private static byte[] writeBlock(
      ByteArrayOutputStream file, Map<String, byte[]> entries, int compression) {
    ProtoBytes block = new ProtoBytes();
    entries.forEach(
        (key, value) -> {
          byte[] name = key.getBytes(StandardCharsets.UTF_8);
          block.varint(0).varint(name.length).varint(value.length);
          block.raw(name).raw(value);
        });
    block.raw(new byte[] {0, 0, 0, 0, 1, 0, 0, 0});
    byte[] content = block.raw(new byte[] {(byte) compression}).toBytes();
    byte[] handle = new ProtoBytes().varint(file.size()).varint(content.length - 1).toBytes();
    file.writeBytes(content);
    file.writeBytes(sum(content, 0, content.length));
    return handle;
  }

  /** The masked checksum, as a block's trailer has it. */
  static byte[] sum(byte[] bytes, int offset, int length) {
    CRC32C sum = new CRC32C();
    sum.update(bytes, offset, length);
    int value = (int) sum.getValue();
    int masked = ((value >>> 15) | (value << 17)) + 0xa282ead8;
    return ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(masked).array();
  }

  /**
   * A damaged table of {@link #of} with the checksum of its data and index blocks put right, where
   * they can still be found, so that a reader looks at what is inside.
   */
  static byte[] withRightSums(byte[] table) {
    ByteBuffer file = ByteBuffer.wrap(table.clone());
    if (table.length < 48) {
      return table;
    }
    file.position(table.length - 48);
    long filters = varint(file);
    repair(file, filters, varint(file));
    long index = varint(file);
    long length = varint(file);
    repair(file, index, length);
    // The data block is the first of the file; it ends where the next begins.
    repair(file, 0, filters - 5);
    return file.array();
  }

  private static void repair(ByteBuffer file, long start, long length) {
    if (start < 0
        || length < 0
        || start > file.capacity()
        || length > file.capacity() - start - 5) {
      return;
    }
    byte[] sum = sum(file.array(), (int) start, (int) length + 1);
    file.put((int) (start + length + 1), sum);
  }

  private static long varint(ByteBuffer bytes) {
    long value = 0;
    for (int shift = 0; shift < 64 && bytes.hasRemaining(); shift += 7) {
      byte part = bytes.get();
      value |= (part & 0x7fL) << shift;
      if (part >= 0) {
        break;
      }
    }
    return value;
  }
}
