package org.bertology4j.checkpoint;

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig;

/** A checkpoint of any format, once its file has been understood. */
final class StoredCheckpoint implements Checkpoint {
  private final Path source;
  private final ModelConfig config;
  private final WeightTable weights;
  private final DataFiles files;
  private volatile boolean closed;

  /** Owns the files. */
  StoredCheckpoint(Path source, ModelConfig config, WeightTable weights, DataFiles files) {
    this.source = source;
    this.config = config;
    this.weights = weights;
    this.files = files;
  }

  @Override
  public ModelConfig config() {
    return config;
  }

  @Override
  public Map<String, StoredTensor> tensors() {
    return weights.tensors();
  }

  @Override
  public Path source() {
    return source;
  }

  @Override
  public Optional<Path> folder() {
    return Optional.ofNullable(
        Files.isDirectory(source) ? source : source.toAbsolutePath().getParent());
  }

  @Override
  public void read(StoredTensor tensor, ByteBuffer target) {
    if (closed) {
      throw new BertologyException(
          BertologyException.Kind.CLOSED, "the checkpoint " + source + " has been closed");
    }
    BertologyException.check(
        tensor.equals(weights.tensors().get(tensor.name())), "%s has no tensor %s", source, tensor);
    Segment segment = weights.segment(tensor.name());
    Segment.checkTarget(tensor.name(), segment.bytes(), target);
    segment.read(tensor.name(), target);
  }

  @Override
  public void close() {
    closed = true;
    files.close();
  }

  @Override
  public String toString() {
    return source + ": " + weights.tensors().size() + " tensors";
  }
}
