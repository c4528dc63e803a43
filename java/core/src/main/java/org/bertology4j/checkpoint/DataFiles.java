package org.bertology4j.checkpoint;

import java.io.Closeable;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.bertology4j.BertologyException;

/** The open files of a checkpoint, each opened once, closed together. */
final class DataFiles implements Closeable {
  private final Map<Path, DataFile> files = new LinkedHashMap<>();

  DataFile open(Path path) {
    return files.computeIfAbsent(path, DataFile::open);
  }

  /**
   * A file that another file of the folder names.
   *
   * <p>The name must not lead out of the folder. Links are followed: Hugging Face's cache consists
   * of them.
   *
   * @param where what names the file, for messages
   */
  static Path inside(Path folder, String name, String where) {
    try {
      Path path = Path.of(name).normalize();
      BertologyException.check(
          !path.toString().isEmpty() && !path.isAbsolute() && !path.startsWith(".."),
          "%s: the file name %s leads out of the folder %s",
          where,
          Messages.quote(name),
          folder);
      return folder.resolve(path);
    } catch (InvalidPathException e) {
      throw BertologyException.invalid(
          "%s: %s is not a file name: %s", where, Messages.quote(name), e.getReason());
    }
  }

  @Override
  public void close() {
    BertologyException failure = null;
    for (DataFile file : files.values()) {
      try {
        file.close();
      } catch (BertologyException e) {
        failure = e;
      }
    }
    if (failure != null) {
      throw failure;
    }
  }
}
