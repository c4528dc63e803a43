package org.bertology4j.checkpoint;

import java.nio.ByteBuffer;
import java.util.List;

/** Finds out whether the matrix that predicts masked tokens is the table of word embeddings. */
final class TiedEmbeddings {
  // Of the words that are compared at a time: some megabytes.
  private static final int PIECE_BYTES = 1 << 22;

  private final Segment words;
  private final Segment decoder;
  private final int elementBytes;
  private final long vocab;
  private final int width;

  private TiedEmbeddings(WeightTable weights, StoredTensor table) {
    words = weights.segment(ParameterNames.WORD_EMBEDDINGS);
    decoder = weights.segment(ParameterNames.DECODER);
    elementBytes = table.type().bytes();
    vocab = table.shape().get(0);
    width = Math.toIntExact(table.shape().get(1));
  }

  /** Whether they are equal byte for byte; also if there is no such matrix of its own. */
  static boolean areTied(WeightTable weights) {
    StoredTensor table = weights.tensors().get(ParameterNames.WORD_EMBEDDINGS);
    StoredTensor decoder = weights.tensors().get(ParameterNames.DECODER);
    if (decoder == null) {
      return true;
    }
    List<Long> shape = table.shape();
    if (decoder.type() != table.type()
        || !decoder.shape().equals(shape)
        || shape.size() != 2
        || shape.get(1) * table.type().bytes() > PIECE_BYTES
        || table.transposed()) {
      return false;
    }
    TiedEmbeddings both = new TiedEmbeddings(weights, table);
    long rowBytes = Math.max(1, shape.get(1) * table.type().bytes());
    int rows = (int) (PIECE_BYTES / rowBytes);
    for (long first = 0; first < both.vocab; first += rows) {
      int count = (int) Math.min(rows, both.vocab - first);
      if (!(decoder.transposed()
          ? both.transposedEqual(first, count)
          : both.plainEqual(first, count))) {
        return false;
      }
    }
    return true;
  }

  private ByteBuffer read(Segment segment, long firstElement, int elements) {
    ByteBuffer bytes = ByteBuffer.allocate(elements * elementBytes);
    segment.file().read(segment.offset() + firstElement * elementBytes, bytes);
    return bytes.flip();
  }

  private boolean plainEqual(long first, int count) {
    return read(words, first * width, count * width)
        .equals(read(decoder, first * width, count * width));
  }

  /** Compares some rows with the same columns. */
  private boolean transposedEqual(long first, int count) {
    ByteBuffer rows = read(words, first * width, count * width);
    for (int i = 0; i < width; i++) {
      ByteBuffer column = read(decoder, i * vocab + first, count);
      for (int j = 0; j < count; j++) {
        for (int k = 0; k < elementBytes; k++) {
          if (column.get(j * elementBytes + k) != rows.get((j * width + i) * elementBytes + k)) {
            return false;
          }
        }
      }
    }
    return true;
  }
}
