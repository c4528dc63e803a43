package org.bertology4j.checkpoint;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.zip.CRC32C;
import org.bertology4j.BertologyException;

/**
 * Reads a table of LevelDB's format: blocks of sorted keys that share prefixes, an index block of
 * where they are, and a footer of where that is.
 */
final class SortedTable {
  private static final long MAGIC = 0xdb4775248b80fb57L;
  private static final int FOOTER_BYTES = 48;
  private static final int TRAILER_BYTES = 5;
  private static final int HANDLE_BYTES = 20;
  private static final int CRC_MASK = 0xa282ead8;

  // Far beyond the tables of a BERT; they keep a damaged one from filling the memory.
  private static final long LARGEST_BLOCK = 64 << 20;
  private static final int LONGEST_KEY = 1024;
  private static final int LONGEST_VALUE = 1 << 14;
  private static final int MOST_ENTRIES = 100_000;

  private final DataFile file;

  private SortedTable(DataFile file) {
    this.file = file;
  }

  /** All entries of a table, by key. */
  static Map<String, byte[]> read(DataFile file) {
    return new SortedTable(file).readAll();
  }

  /** The checksum that LevelDB and TensorFlow store for a CRC-32C. */
  static int unmasked(int stored) {
    int rotated = stored - CRC_MASK;
    return (rotated >>> 17) | (rotated << 15);
  }

  private Map<String, byte[]> readAll() {
    check(file.size() >= FOOTER_BYTES, "the file has %d bytes", file.size());
    ByteBuffer footer = allocate(FOOTER_BYTES);
    file.read(file.size() - FOOTER_BYTES, footer);
    footer.flip();
    check(
        footer.getLong(FOOTER_BYTES - Long.BYTES) == MAGIC,
        "the last 8 bytes are %016x, expected %016x",
        footer.getLong(FOOTER_BYTES - Long.BYTES),
        MAGIC);
    footer.limit(2 * HANDLE_BYTES);
    readHandle(footer); // of the block that says how to filter
    Map<String, byte[]> blocks = new LinkedHashMap<>();
    readBlock(readHandle(footer), blocks);
    Map<String, byte[]> entries = new LinkedHashMap<>();
    for (byte[] handle : blocks.values()) {
      readBlock(readHandle(ByteBuffer.wrap(handle)), entries);
    }
    return entries;
  }

  private ProtoReader.Range readHandle(ByteBuffer bytes) {
    return new ProtoReader.Range(readVarint(bytes), readVarint(bytes));
  }

  private void readBlock(ProtoReader.Range range, Map<String, byte[]> entries) {
    long available = file.size() - FOOTER_BYTES - TRAILER_BYTES;
    check(
        range.position() >= 0
            && range.length() >= 0
            && range.length() <= LARGEST_BLOCK
            && range.position() <= available
            && range.length() <= available - range.position(),
        "a block of %d bytes at byte %d",
        range.length(),
        range.position());
    int length = (int) range.length();
    ByteBuffer block = allocate(length + TRAILER_BYTES);
    file.read(range.position(), block);
    CRC32C sum = new CRC32C();
    sum.update(block.array(), 0, length + 1);
    int expected = unmasked(block.getInt(length + 1));
    check(
        (int) sum.getValue() == expected,
        "the block at byte %d has the CRC-32C %08x, expected %08x",
        range.position(),
        (int) sum.getValue(),
        expected);
    if (block.get(length) != 0) {
      throw new BertologyException(
          BertologyException.Kind.UNSUPPORTED,
          String.format(
              "%s: a block is compressed (type %d%s); uncompressed tables are supported, as"
                  + " TensorFlow writes them",
              file.path(), block.get(length), block.get(length) == 1 ? ", snappy" : ""));
    }
    block.position(0).limit(length);
    readEntries(block, entries);
  }

  private void readEntries(ByteBuffer block, Map<String, byte[]> entries) {
    check(block.limit() >= Integer.BYTES, "a block of %d bytes", block.limit());
    long restarts = block.getInt(block.limit() - Integer.BYTES) & 0xffffffffL;
    long end = block.limit() - Integer.BYTES * (restarts + 1);
    check(end >= 0, "a block of %d bytes with %d restarts", block.limit(), restarts);
    block.limit((int) end);
    byte[] key = new byte[0];
    while (block.hasRemaining()) {
      long shared = readVarint(block);
      long own = readVarint(block);
      long valueBytes = readVarint(block);
      check(
          shared >= 0 && shared <= key.length && own >= 0 && own <= LONGEST_KEY - shared,
          "a key of %d and %d bytes after one of %d",
          shared,
          own,
          key.length);
      check(
          valueBytes >= 0 && valueBytes <= LONGEST_VALUE && valueBytes <= block.remaining() - own,
          "a value of %d bytes where %d remain",
          valueBytes,
          block.remaining() - own);
      byte[] next = Arrays.copyOf(key, (int) (shared + own));
      block.get(next, (int) shared, (int) own);
      byte[] value = new byte[(int) valueBytes];
      block.get(value);
      check(key.length == 0 || Arrays.compareUnsigned(key, next) < 0, "keys that are not in order");
      key = next;
      check(
          entries.put(new String(key, StandardCharsets.UTF_8), value) == null,
          "a key that is there twice");
      check(entries.size() <= MOST_ENTRIES, "more than %d entries", MOST_ENTRIES);
    }
  }

  private long readVarint(ByteBuffer bytes) {
    long value = 0;
    for (int shift = 0; shift < Long.SIZE; shift += 7) {
      check(bytes.hasRemaining(), "the end inside a number");
      byte part = bytes.get();
      value |= (part & 0x7fL) << shift;
      if (part >= 0) {
        return value;
      }
    }
    throw damaged("a number of more than ten bytes");
  }

  private static ByteBuffer allocate(int bytes) {
    return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  private void check(boolean ok, String format, Object... arguments) {
    if (!ok) {
      throw damaged(String.format(format, arguments));
    }
  }

  private BertologyException damaged(String found) {
    return BertologyException.invalid(
        "%s is not the index of a TensorFlow bundle, or is damaged: %s", file.path(), found);
  }
}
