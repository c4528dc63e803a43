package org.bertology4j.checkpoint;

import java.nio.charset.StandardCharsets;
import java.util.function.LongConsumer;
import org.bertology4j.BertologyException;

/**
 * Reads a message of protocol buffers' wire format, field by field. What is not asked for is
 * skipped, and never read from the source. No length is trusted beyond the end of the message.
 */
final class ProtoReader {
  private static final int VARINT = 0;
  private static final int FIXED64 = 1;
  private static final int BYTES = 2;
  private static final int FIXED32 = 5;

  private final ByteSource source;
  private final String where;
  private final long end;
  private long position;
  private int field;
  private int wire;
  private boolean pending;

  /** A range of the source. */
  record Range(long position, long length) {}

  /**
   * A message.
   *
   * @param where what to call it in messages
   */
  ProtoReader(ByteSource source, Range range, String where) {
    this.source = source;
    this.where = where;
    this.position = range.position();
    this.end = range.position() + range.length();
  }

  /** Goes to the next field, if there is one; skips the one before if it was not read. */
  boolean next() {
    if (pending) {
      skip();
    }
    if (position == end) {
      return false;
    }
    long tag = varint();
    field = (int) (tag >>> 3);
    wire = (int) (tag & 7);
    if (tag < 0 || tag > 0xffffffffL || field <= 0) {
      throw damaged("a field number of " + (tag >>> 3));
    }
    pending = true;
    return true;
  }

  /** Number of the field. */
  int field() {
    return field;
  }

  /** Whether the field is a range of bytes, not a number. */
  boolean isBytes() {
    return wire == BYTES;
  }

  /** The value of a field of whole numbers. */
  long readLong() {
    expect(VARINT);
    return varint();
  }

  /** The value of an enumeration or a small number. */
  int readInt() {
    long value = readLong();
    if (value != (int) value) {
      throw damaged("the number " + value);
    }
    return (int) value;
  }

  /** The bits of a float, or of another value of four bytes. */
  int readFixed32() {
    expect(FIXED32);
    return (int) little(Integer.BYTES);
  }

  /** Where the bytes of a field are; they are not read. */
  Range readRange() {
    expect(BYTES);
    long length = varint();
    if (length < 0 || length > end - position) {
      throw damaged(
          "a length of "
              + Long.toUnsignedString(length)
              + " where "
              + (end - position)
              + " remain");
    }
    Range range = new Range(position, length);
    position += length;
    return range;
  }

  /** A text of at most so many bytes. */
  String readString(int most) {
    Range range = readRange();
    if (range.length() > most) {
      throw damaged("a text of " + range.length() + " bytes, expected at most " + most);
    }
    return text(range);
  }

  /** The text of a range that is known to be short. */
  String text(Range range) {
    byte[] bytes = new byte[Math.toIntExact(range.length())];
    source.copy(range.position(), bytes);
    return new String(bytes, StandardCharsets.UTF_8);
  }

  /** A message inside this one. */
  ProtoReader readMessage() {
    return new ProtoReader(source, readRange(), where);
  }

  /** Whole numbers of a repeated field, one by one or packed. */
  void readLongs(LongConsumer target) {
    if (wire == VARINT) {
      target.accept(readLong());
      return;
    }
    ProtoReader packed = readMessage();
    while (packed.position < packed.end) {
      target.accept(packed.varint());
    }
  }

  /** A damaged message: what was found. */
  BertologyException damaged(String found) {
    return BertologyException.invalid(
        "%s: %s at byte %d, field %d: the file is truncated, damaged or of another format",
        where, found, position, field);
  }

  private void expect(int type) {
    if (wire != type) {
      throw damaged("wire type " + wire + ", expected " + type);
    }
    pending = false;
  }

  private void skip() {
    pending = false;
    switch (wire) {
      case VARINT -> varint();
      case FIXED64 -> advance(Long.BYTES);
      case BYTES -> readRange();
      case FIXED32 -> advance(Integer.BYTES);
      default -> throw damaged("wire type " + wire);
    }
  }

  private void advance(int bytes) {
    if (bytes > end - position) {
      throw damaged("a value of " + bytes + " bytes where " + (end - position) + " remain");
    }
    position += bytes;
  }

  private long little(int bytes) {
    long at = position;
    advance(bytes);
    long value = 0;
    for (int i = 0; i < bytes; i++) {
      value |= (source.at(at + i) & 0xffL) << (8 * i);
    }
    return value;
  }

  private long varint() {
    long value = 0;
    for (int shift = 0; shift < Long.SIZE; shift += 7) {
      if (position == end) {
        throw damaged("the end inside a number");
      }
      byte part = source.at(position++);
      value |= (part & 0x7fL) << shift;
      if (part >= 0) {
        return value;
      }
    }
    throw damaged("a number of more than ten bytes");
  }
}
