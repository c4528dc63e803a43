package org.bertology4j.checkpoint;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.FileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.LinkedHashSet;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import org.bertology4j.BertologyException;

/**
 * Files that belong together, such as weights and their configuration: all are written, to
 * temporary names in their folders and to the disk, before the first one takes its name. If
 * anything fails until then, files that were there before are as they were.
 *
 * <pre>{@code
 * try (StagedFiles files = new StagedFiles()) {
 *   files.write(weights, size, content);
 *   files.write(config, bytes);
 *   files.commit();
 * }
 * }</pre>
 *
 * Not safe for use from several threads.
 */
public final class StagedFiles implements AutoCloseable {
  /** Writes a file in any order. */
  @FunctionalInterface
  interface Pieces {
    /** Writes everything; the channel belongs to the caller and stays open. */
    void writeTo(FileChannel channel) throws IOException;
  }

  private static final int ATTEMPTS = 100;

  private final Deque<Staged> staged = new ArrayDeque<>();

  /** A file that is on the disk under a temporary name. */
  private record Staged(Path temporary, Path target, long bytes) {}

  /** Stages a file of these bytes. */
  public void write(Path target, byte[] bytes) {
    write(target, bytes.length, channel -> AtomicFiles.writeFully(channel, ByteBuffer.wrap(bytes)));
  }

  /**
   * Stages a file of the content, piece by piece.
   *
   * @param bytes size of the content, for messages
   * @throws BertologyException of kind IO if it cannot be written; whatever else the content throws
   *     comes out as it is
   */
  public void write(Path target, long bytes, AtomicFiles.Content content) {
    writePieces(target, bytes, content::writeTo);
  }

  /** The same for a file that is not written from its beginning to its end. */
  void writePieces(Path target, long bytes, Pieces content) {
    try {
      Path temporary = null;
      try (Temporary file = Temporary.create(folder(target), target.getFileName().toString())) {
        temporary = file.path();
        content.writeTo(file.channel());
        file.channel().force(true);
      } catch (Throwable e) {
        delete(temporary, e);
        throw e;
      }
      staged.add(new Staged(temporary, target, bytes));
    } catch (ClosedByInterruptException e) {
      throw new BertologyException(
          BertologyException.Kind.INTERRUPTED,
          target + ": interrupted while writing; it is as it was",
          e);
    } catch (IOException e) {
      throw cannotWrite(target, bytes, e);
    }
  }

  /**
   * Gives the files their names, in the order in which they were staged.
   *
   * @throws BertologyException of kind IO if that cannot be done
   */
  public void commit() {
    for (Staged file : staged) {
      if (Files.isDirectory(file.target())) {
        throw cannotWrite(
            file.target(),
            file.bytes(),
            new FileSystemException(file.target().toString(), null, "it is a folder"));
      }
    }
    Set<Path> folders = new LinkedHashSet<>();
    while (!staged.isEmpty()) {
      Staged file = staged.peek();
      try {
        Files.move(
            file.temporary(),
            file.target(),
            StandardCopyOption.ATOMIC_MOVE,
            StandardCopyOption.REPLACE_EXISTING);
      } catch (IOException e) {
        throw cannotWrite(file.target(), file.bytes(), e);
      }
      staged.remove();
      folders.add(folder(file.target()));
    }
    folders.forEach(StagedFiles::force);
  }

  /** Deletes what was staged and not committed. */
  @Override
  public void close() {
    IOException failure = null;
    for (Staged file : staged) {
      try {
        Files.deleteIfExists(file.temporary());
      } catch (IOException e) {
        failure = e;
      }
    }
    staged.clear();
    if (failure != null) {
      throw BertologyException.io(failure, "a temporary file is left over: %s", failure);
    }
  }

  private static Path folder(Path target) {
    Path folder = target.toAbsolutePath().getParent();
    BertologyException.check(folder != null, "%s is not the name of a file", target);
    return folder;
  }

  private static BertologyException cannotWrite(Path target, long bytes, IOException e) {
    String reason = e.getClass() == IOException.class ? e.getMessage() : e.toString();
    return BertologyException.io(
        e, "%s: cannot write %d bytes: %s%s", target, bytes, reason, free(folder(target)));
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

  /** Without this a rename may be lost when the machine stops. */
  private static void force(Path folder) {
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
