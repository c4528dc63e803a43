package org.bertology4j.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.bertology4j.BertologyException;

/** Where results go is looked at before the work begins whose results they are. */
final class Outputs {
  private Outputs() {}

  /** Throws if no such file can be written: it is a folder, or its folder is not there. */
  static void checkFile(Path file) {
    BertologyException.check(!Files.isDirectory(file), "%s is a folder, expected a file", file);
    Path folder = file.toAbsolutePath().getParent();
    BertologyException.check(
        Files.isDirectory(folder), "%s cannot be written: %s is not a folder", file, folder);
    checkWritable(file, folder);
  }

  /** Throws if the folder is not there and cannot be made, or is something else. */
  static void checkFolder(Path folder) {
    Path existing = folder.toAbsolutePath();
    while (!Files.exists(existing) && existing.getParent() != null) {
      existing = existing.getParent();
    }
    BertologyException.check(
        Files.isDirectory(existing),
        "%s cannot be a folder of results: %s is not a folder",
        folder,
        existing);
    checkWritable(folder, existing);
  }

  private static void checkWritable(Path wanted, Path folder) {
    BertologyException.check(
        Files.isWritable(folder), "%s cannot be written: no permission for %s", wanted, folder);
  }

  /** Throws if a folder for a pruned model cannot be written, or is that of the whole model. */
  static void checkModelFolder(Path folder, Path model) {
    checkFolder(folder);
    BertologyException.check(
        !isSame(folder, modelFolder(model)),
        "%s is the folder of the model itself, which would be lost: name another",
        folder);
  }

  /** The folder that a model's files are in; the model may be named by one of them. */
  static Path modelFolder(Path model) {
    return Files.isDirectory(model) ? model : model.toAbsolutePath().getParent();
  }

  private static boolean isSame(Path one, Path other) {
    try {
      return Files.exists(one) && Files.exists(other) && Files.isSameFile(one, other);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be read: %s", one, e);
    }
  }
}
