package org.bertology4j.checkpoint;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.FileChannel;
import java.nio.channels.WritableByteChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.ThreadLocalRandom;
import org.bertology4j.BertologyException;

/**
 * Writes files that are there whole or not at all: to a temporary name in the same folder, to the
 * disk, then to the name. If anything fails, the temporary file is deleted and a file that was
 * there before is as it was.
 */
public final class AtomicFiles {
  /** Writes the content of a file, or a part of it. */
  @FunctionalInterface
  public interface Content {
    /** Writes everything; the channel belongs to the caller and stays open. */
    void writeTo(WritableByteChannel channel) throws IOException;
  }

  /** Writes a file in any order. */
  @FunctionalInterface
  interface Pieces {
    /** Writes everything; the channel belongs to the caller and stays open. */
    void writeTo(FileChannel channel) throws IOException;
  }

  private static final int ATTEMPTS = 100;

  private AtomicFiles() {}

  /**
   * Writes a file of these bytes.
   *
   * @throws BertologyException of kind IO if it cannot be written
   */
  public static void write(Path target, byte[] bytes) {
    write(target, bytes.length, channel -> writeFully(channel, ByteBuffer.wrap(bytes)));
  }

  /**
   * Writes a file of this text, as UTF-8.
   *
   * @throws BertologyException of kind IO if it cannot be written
   */
  public static void writeString(Path target, String text) {
    write(target, text.getBytes(StandardCharsets.UTF_8));
  }

  /**
   * Writes a file of the content, piece by piece.
   *
   * @param bytes size of the content, for messages
   * @throws BertologyException of kind IO if it cannot be written; whatever else the content throws
   *     comes out as it is
   */
  public static void write(Path target, long bytes, Content content) {
    writePieces(target, bytes, content::writeTo);
  }

  /** The same for a file that is not written from its beginning to its end. */
  static void writePieces(Path target, long bytes, Pieces content) {
    Path folder = target.toAbsolutePath().getParent();
    BertologyException.check(folder != null, "%s is not the name of a file", target);
    try {
      Path temporary = null;
      try {
        try (Temporary file = Temporary.create(folder, target.getFileName().toString())) {
          temporary = file.path();
          content.writeTo(file.channel());
          file.channel().force(true);
        }
        Files.move(
            temporary, target, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
      } catch (Throwable e) {
        delete(temporary, e);
        throw e;
      }
      forceFolder(folder);
    } catch (ClosedByInterruptException e) {
      throw new BertologyException(
          BertologyException.Kind.INTERRUPTED,
          target + ": interrupted while writing; it is as it was",
          e);
    } catch (IOException e) {
      throw BertologyException.io(
          e, "%s: cannot write %d bytes: %s%s", target, bytes, reason(e), free(folder));
    }
  }

  /** Writes what remains of the buffer. */
  static void writeFully(WritableByteChannel channel, ByteBuffer bytes) throws IOException {
    while (bytes.hasRemaining()) {
      channel.write(bytes);
    }
  }

  /** Writes what remains of the buffer, from a place of the file on. */
  static void writeFully(FileChannel channel, ByteBuffer bytes, long place) throws IOException {
    long at = place;
    while (bytes.hasRemaining()) {
      at += channel.write(bytes, at);
    }
  }

  private static String reason(IOException e) {
    return e.getClass() == IOException.class ? e.getMessage() : e.toString();
  }

  private static String free(Path folder) {
    try {
      return " (" + Files.getFileStore(folder).getUsableSpace() + " bytes are free)";
    } catch (IOException | SecurityException e) {
      return "";
    }
  }

  private static void delete(Path temporary, Throwable cause) {
    if (temporary == null) {
      return;
    }
    try {
      Files.deleteIfExists(temporary);
    } catch (IOException e) {
      cause.addSuppressed(e);
    }
  }

  /** Without this the rename may be lost when the machine stops. */
  private static void forceFolder(Path folder) {
    try (FileChannel channel = FileChannel.open(folder, StandardOpenOption.READ)) {
      channel.force(true);
    } catch (IOException e) {
      // Not every system can do that with a folder; the file itself is on the disk.
    }
  }

  /** A new file beside the target. Unlike Files.createTempFile, it has the usual permissions. */
  private record Temporary(Path path, FileChannel channel) implements AutoCloseable {
    static Temporary create(Path folder, String name) throws IOException {
      FileAlreadyExistsException last = null;
      for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        long random = ThreadLocalRandom.current().nextLong();
        Path path = folder.resolve("." + name + "." + Long.toHexString(random) + ".tmp");
        try {
          return new Temporary(
              path,
              FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE));
        } catch (FileAlreadyExistsException e) {
          last = e;
        }
      }
      throw last;
    }

    @Override
    public void close() throws IOException {
      channel.close();
    }
  }
}
