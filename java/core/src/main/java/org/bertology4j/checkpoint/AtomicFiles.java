package org.bertology4j.checkpoint;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.WritableByteChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.bertology4j.BertologyException;

/**
 * Writes files that are there whole or not at all: to a temporary name in the same folder, to the
 * disk, then to the name. If anything fails, the temporary file is deleted and a file that was
 * there before is as it was. Several files that belong together are {@link StagedFiles}.
 */
public final class AtomicFiles {
  /** Writes the content of a file, or a part of it. */
  @FunctionalInterface
  public interface Content {
    /** Writes everything; the channel belongs to the caller and stays open. */
    void writeTo(WritableByteChannel channel) throws IOException;
  }

  private AtomicFiles() {}

  /**
   * Writes a file of these bytes.
   *
   * @throws BertologyException of kind IO if it cannot be written
   */
  public static void write(Path target, byte[] bytes) {
    try (StagedFiles files = new StagedFiles()) {
      files.write(target, bytes);
      files.commit();
    }
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
  static void writePieces(Path target, long bytes, StagedFiles.Pieces content) {
    try (StagedFiles files = new StagedFiles()) {
      files.writePieces(target, bytes, content);
      files.commit();
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
}
