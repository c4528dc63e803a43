package org.bertology4j.checkpoint;

import java.io.Closeable;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import org.bertology4j.BertologyException;

/**
 * A file that is read at positions, from many threads.
 *
 * <p>It is read, not mapped: when somebody truncates a mapped file, touching the lost pages raises
 * SIGBUS, which inside native code kills the JVM. A read reports it.
 */
final class DataFile implements Closeable {
  // A read into a heap buffer goes through a direct buffer of the same size that the JDK keeps for
  // the thread: small steps keep that one small.
  private static final int STEP = 1 << 20;

  private final Path path;
  private final BasicFileAttributes attributes;
  private volatile FileChannel channel;
  private volatile boolean closed;

  private DataFile(Path path, BasicFileAttributes attributes, FileChannel channel) {
    this.path = path;
    this.attributes = attributes;
    this.channel = channel;
  }

  static DataFile open(Path path) {
    try {
      if (!Files.exists(path)) {
        throw new BertologyException(BertologyException.Kind.IO, path + ": no such file");
      }
      // Opening a pipe would wait for its writer.
      if (!Files.isRegularFile(path)) {
        throw new BertologyException(
            BertologyException.Kind.IO, path + ": not a file that can be read at positions");
      }
      FileChannel channel = FileChannel.open(path, StandardOpenOption.READ);
      try {
        return new DataFile(path, attributes(path), channel);
      } catch (IOException e) {
        channel.close();
        throw e;
      }
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be opened: %s", path, e);
    }
  }

  private static BasicFileAttributes attributes(Path path) throws IOException {
    return Files.readAttributes(path, BasicFileAttributes.class);
  }

  Path path() {
    return path;
  }

  /** Bytes that the file had when it was opened. */
  long size() {
    return attributes.size();
  }

  /** Fills what remains of the buffer with the bytes from a position on. */
  void read(long position, ByteBuffer target) {
    int limit = target.limit();
    long at = position;
    while (target.position() < limit) {
      FileChannel open = channel();
      target.limit(target.position() + Math.min(STEP, limit - target.position()));
      try {
        int count = open.read(target, at);
        if (count < 0) {
          throw new BertologyException(
              BertologyException.Kind.IO,
              String.format(
                  "%s changed since it was opened: it ends before byte %d, and had %d bytes",
                  path, at + (limit - target.position()), size()));
        }
        at += count;
      } catch (ClosedByInterruptException e) {
        throw new BertologyException(
            BertologyException.Kind.INTERRUPTED, path + ": interrupted while reading", e);
      } catch (ClosedChannelException e) {
        reopen(open);
      } catch (IOException e) {
        throw BertologyException.io(e, "%s: cannot be read at byte %d: %s", path, at, e);
      } finally {
        target.limit(limit);
      }
    }
  }

  private FileChannel channel() {
    if (closed) {
      throw closedException();
    }
    // An interrupted thread that reads closes the channel for all others.
    if (Thread.currentThread().isInterrupted()) {
      throw new BertologyException(
          BertologyException.Kind.INTERRUPTED, path + ": interrupted before reading");
    }
    return channel;
  }

  private BertologyException closedException() {
    return new BertologyException(BertologyException.Kind.CLOSED, path + " has been closed");
  }

  /** Another thread was interrupted while it read, which closed the channel. */
  private synchronized void reopen(FileChannel broken) {
    if (closed) {
      throw closedException();
    }
    if (channel != broken) {
      return;
    }
    try {
      FileChannel fresh = FileChannel.open(path, StandardOpenOption.READ);
      BasicFileAttributes now = attributes(path);
      if (now.size() != attributes.size()
          || !now.lastModifiedTime().equals(attributes.lastModifiedTime())
          || !String.valueOf(now.fileKey()).equals(String.valueOf(attributes.fileKey()))) {
        fresh.close();
        throw new BertologyException(
            BertologyException.Kind.IO, path + " changed since it was opened");
      }
      channel = fresh;
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be opened again: %s", path, e);
    }
  }

  /** The bytes of a range, as a stream. Closing it does nothing. */
  InputStream stream(long position, long length) {
    return new InputStream() {
      private long next = position;

      @Override
      public int read() {
        byte[] one = new byte[1];
        return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
      }

      @Override
      public int read(byte[] target, int offset, int count) {
        int bytes = (int) Math.min(count, position + length - next);
        if (bytes <= 0) {
          return count == 0 ? 0 : -1;
        }
        DataFile.this.read(next, ByteBuffer.wrap(target, offset, bytes));
        next += bytes;
        return bytes;
      }
    };
  }

  @Override
  public synchronized void close() {
    closed = true;
    try {
      channel.close();
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be closed: %s", path, e);
    }
  }
}
