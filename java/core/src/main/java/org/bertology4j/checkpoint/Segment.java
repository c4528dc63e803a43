package org.bertology4j.checkpoint;

import java.nio.ByteBuffer;
import java.util.OptionalInt;
import java.util.zip.CRC32C;
import org.bertology4j.BertologyException;

/**
 * Where the bytes of a tensor are.
 *
 * @param crc32c checksum of the bytes, if the format has one
 */
record Segment(DataFile file, long offset, long bytes, OptionalInt crc32c) {

  /** A range without a checksum. */
  static Segment of(DataFile file, long offset, long bytes) {
    return new Segment(file, offset, bytes, OptionalInt.empty());
  }

  /** Throws unless the file has these bytes. */
  void checkWithinFile(String tensor) {
    BertologyException.check(
        offset >= 0 && bytes >= 0 && offset <= file.size() && bytes <= file.size() - offset,
        "%s: tensor %s takes %d bytes from byte %d on, and the file has %d bytes: it is truncated"
            + " or damaged",
        file.path(),
        Messages.quote(tensor),
        bytes,
        offset,
        file.size());
  }

  /** Throws unless the buffer can take the whole tensor. */
  static void checkTarget(String tensor, long bytes, ByteBuffer target) {
    if (bytes > Integer.MAX_VALUE) {
      throw new BertologyException(
          BertologyException.Kind.UNSUPPORTED,
          String.format(
              "tensor %s has %d bytes; less than 2 GB are supported",
              Messages.quote(tensor), bytes));
    }
    BertologyException.check(
        target.remaining() == bytes && !target.isReadOnly(),
        "tensor %s has %d bytes, and the buffer takes %d%s",
        Messages.quote(tensor),
        bytes,
        target.remaining(),
        target.isReadOnly() ? " and is read-only" : "");
  }

  /** Fills the buffer, which has as many bytes remaining, and checks the checksum. */
  void read(String tensor, ByteBuffer target) {
    ByteBuffer filled = target.duplicate();
    file.read(offset, target);
    if (crc32c.isPresent()) {
      CRC32C sum = new CRC32C();
      sum.update(filled);
      BertologyException.check(
          (int) sum.getValue() == crc32c.getAsInt(),
          "%s: tensor %s has the CRC-32C %08x, expected %08x: the file is damaged",
          file.path(),
          Messages.quote(tensor),
          (int) sum.getValue(),
          crc32c.getAsInt());
    }
  }
}
