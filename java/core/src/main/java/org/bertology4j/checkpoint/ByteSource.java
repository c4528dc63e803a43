package org.bertology4j.checkpoint;

import java.nio.ByteBuffer;

/** Bytes at positions. */
interface ByteSource {
  /** The byte at a position that exists. */
  byte at(long position);

  /** Fills the array with the bytes from a position on, all of which exist. */
  void copy(long position, byte[] target);

  /** The bytes of an array. */
  static ByteSource of(byte[] bytes) {
    return new ByteSource() {
      @Override
      public byte at(long position) {
        return bytes[(int) position];
      }

      @Override
      public void copy(long position, byte[] target) {
        System.arraycopy(bytes, (int) position, target, 0, target.length);
      }
    };
  }

  /** The bytes of a file, of which a window is in memory. For one thread. */
  static ByteSource of(DataFile file) {
    return new ByteSource() {
      private final byte[] window = new byte[1 << 16];
      private long start;
      private int count;

      @Override
      public byte at(long position) {
        if (position < start || position >= start + count) {
          count = 0;
          int bytes = (int) Math.min(window.length, file.size() - position);
          file.read(position, ByteBuffer.wrap(window, 0, bytes));
          start = position;
          count = bytes;
        }
        return window[(int) (position - start)];
      }

      @Override
      public void copy(long position, byte[] target) {
        if (position >= start && position + target.length <= start + count) {
          System.arraycopy(window, (int) (position - start), target, 0, target.length);
        } else {
          file.read(position, ByteBuffer.wrap(target));
        }
      }
    };
  }
}
