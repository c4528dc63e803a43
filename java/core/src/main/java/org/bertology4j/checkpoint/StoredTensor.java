package org.bertology4j.checkpoint;

import java.util.List;
import org.bertology4j.BertologyException;

/**
 * A tensor of a checkpoint, not yet read.
 *
 * @param name Hugging Face's name of the parameter, without the model's prefix, such as {@code
 *     encoder.layer.0.attention.self.query.weight}
 * @param type how its elements are stored
 * @param shape its sizes as Hugging Face has them: matrices are [outputs, inputs]
 * @param transposed whether a matrix is stored as [inputs, outputs], row by row; else it is stored
 *     as its shape says
 */
public record StoredTensor(String name, StoredType type, List<Long> shape, boolean transposed) {
  /** A tensor; the shape is copied. */
  public StoredTensor {
    shape = List.copyOf(shape);
  }

  /** Number of elements. */
  public long elements() {
    return shape.stream().mapToLong(Long::longValue).reduce(1, Math::multiplyExact);
  }

  /** Bytes that it takes in the file. */
  public long bytes() {
    return Math.multiplyExact(elements(), (long) type.bytes());
  }

  /** Throws if it has more bytes than a Java buffer can hold. */
  public void checkFitsBuffer() {
    if (bytes() > Integer.MAX_VALUE) {
      throw new BertologyException(
          BertologyException.Kind.UNSUPPORTED,
          String.format(
              "tensor %s has %d bytes: more than %d are not supported",
              this, bytes(), Integer.MAX_VALUE));
    }
  }

  /** Such as "query.weight float32 [64, 32]". */
  @Override
  public String toString() {
    return name + " " + type.name().toLowerCase(java.util.Locale.ROOT) + " " + shape;
  }
}
