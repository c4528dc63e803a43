package org.bertology4j.checkpoint;

import java.io.Closeable;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.bertology4j.BertologyException;

/**
 * A safetensors file, open for reading: its tensors of whatever type, under the names that the file
 * has. Safe for use from many threads.
 */
public final class SafetensorsFile implements Closeable {
  private final DataFile file;
  private final SafetensorsHeader header;

  /**
   * A tensor of a file.
   *
   * @param name its name in the file
   * @param type how its elements are stored, little-endian
   * @param shape its sizes; its elements are stored row by row
   * @param offset where its first byte is in the file
   * @param bytes how many bytes it has
   */
  public record Tensor(
      String name, SafetensorsType type, List<Long> shape, long offset, long bytes) {
    /** A tensor; the shape is copied. */
    public Tensor {
      shape = List.copyOf(shape);
    }
  }

  private SafetensorsFile(DataFile file, SafetensorsHeader header) {
    this.file = file;
    this.header = header;
  }

  /**
   * Opens a file and reads its header.
   *
   * @throws BertologyException if the file is not what the format says, of kind INVALID_ARGUMENT;
   *     if it cannot be read, of kind IO
   */
  public static SafetensorsFile open(Path path) {
    DataFile file = DataFile.open(path);
    try {
      return new SafetensorsFile(file, SafetensorsHeader.read(file));
    } catch (RuntimeException e) {
      file.close();
      throw e;
    }
  }

  /** A file that somebody else closes. */
  static SafetensorsFile of(DataFile file) {
    return new SafetensorsFile(file, SafetensorsHeader.read(file));
  }

  /** The file's own entries, such as {@code format}. */
  public Map<String, String> metadata() {
    return header.metadata();
  }

  /** The tensors by name, in the order of their data. */
  public Map<String, Tensor> tensors() {
    return header.tensors();
  }

  /** The tensor of this name. */
  public Tensor tensor(String name) {
    Tensor tensor = header.tensors().get(name);
    BertologyException.check(
        tensor != null,
        "%s has no tensor %s; it has %s",
        file.path(),
        Messages.quote(name),
        Messages.few(header.tensors().keySet()));
    return tensor;
  }

  /**
   * Reads a whole tensor.
   *
   * @param target has {@link Tensor#bytes} bytes remaining; its position moves to its limit
   */
  public void read(Tensor tensor, ByteBuffer target) {
    check(tensor);
    Segment.checkTarget(tensor.name(), tensor.bytes(), target);
    file.read(tensor.offset(), target);
  }

  /**
   * Reads as many bytes of a tensor as the buffer takes, for those of 2 GB and more.
   *
   * @param from first byte, counted from the tensor's beginning
   * @param target its position moves to its limit
   */
  public void read(Tensor tensor, long from, ByteBuffer target) {
    check(tensor);
    BertologyException.check(
        from >= 0 && from <= tensor.bytes() && target.remaining() <= tensor.bytes() - from,
        "tensor %s has %d bytes: %d bytes from byte %d on are not in it",
        Messages.quote(tensor.name()),
        tensor.bytes(),
        target.remaining(),
        from);
    file.read(tensor.offset() + from, target);
  }

  private void check(Tensor tensor) {
    BertologyException.check(
        tensor.equals(header.tensors().get(tensor.name())),
        "%s has no such tensor: %s",
        file.path(),
        tensor);
  }

  /** The file. */
  public Path path() {
    return file.path();
  }

  @Override
  public void close() {
    file.close();
  }
}
