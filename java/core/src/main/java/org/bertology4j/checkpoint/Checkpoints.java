package org.bertology4j.checkpoint;

import java.nio.file.Path;
import org.bertology4j.BertologyException;

/** Finds out what a path holds. */
final class Checkpoints {
  private Checkpoints() {}

  static Checkpoint open(Path path) {
    throw BertologyException.invalid("%s: no checkpoint of a known format", path);
  }
}
