package org.bertology4j;

import java.lang.invoke.VarHandle;
import java.nio.FloatBuffer;
import java.util.Arrays;
import org.bertology4j.internal.NativeActivations;

/**
 * A view of a captured tensor in native memory, row-major. Nothing is copied until asked for.
 *
 * <p>The view belongs to its {@link Activations}: once those are closed, every method that reads
 * fails with {@link BertologyException.Kind#CLOSED}. Safe for reading from many threads, also while
 * another one closes.
 */
public final class FloatTensor {
  private final Activations owner;
  private final NativeActivations memory;
  private final long offset;
  private final long[] shape;
  private final long elements;

  FloatTensor(Activations owner, NativeActivations memory, long offset, long... shape) {
    this.owner = owner;
    this.memory = memory;
    this.offset = offset;
    this.shape = shape;
    this.elements = Arrays.stream(shape).reduce(1, (a, b) -> a * b);
  }

  /** Number of dimensions; 0 for a scalar. */
  public int rank() {
    return shape.length;
  }

  /** A copy of the sizes. */
  public long[] shape() {
    return shape.clone();
  }

  /** The size of a dimension. */
  public long size(int dimension) {
    BertologyException.check(
        dimension >= 0 && dimension < shape.length,
        "dimension %d of a tensor of shape %s",
        dimension,
        Arrays.toString(shape));
    return shape[dimension];
  }

  /** Number of elements. */
  public long elements() {
    return elements;
  }

  /** The element of a scalar. */
  public float get() {
    checkRank(0);
    return at(0);
  }

  /** An element of a vector. */
  public float get(long i) {
    checkRank(1);
    checkIndex(0, i);
    return at(i);
  }

  /** An element of a matrix. */
  public float get(long i, long j) {
    checkRank(2);
    checkIndex(0, i);
    checkIndex(1, j);
    return at(i * shape[1] + j);
  }

  /** An element of a tensor of three dimensions. */
  public float get(long i, long j, long k) {
    checkRank(3);
    checkIndex(0, i);
    checkIndex(1, j);
    checkIndex(2, k);
    return at((i * shape[1] + j) * shape[2] + k);
  }

  /** The tensor at place {@code i} of the first dimension: one dimension less, still a view. */
  public FloatTensor slice(long i) {
    BertologyException.check(shape.length > 0, "a scalar has no slices");
    checkIndex(0, i);
    long[] rest = Arrays.copyOfRange(shape, 1, shape.length);
    return new FloatTensor(owner, memory, offset + i * (elements / shape[0]), rest);
  }

  /** A copy of all elements, row by row. */
  public float[] toArray() {
    BertologyException.check(
        elements <= Integer.MAX_VALUE - 8,
        "a tensor of shape %s is too large for one array: take slices",
        Arrays.toString(shape));
    float[] target = new float[(int) elements];
    copyTo(target, 0);
    return target;
  }

  /** Copies all elements, row by row, to the array from place {@code start} on. */
  public void copyTo(float[] target, int start) {
    BertologyException.check(
        start >= 0 && target.length - start >= elements,
        "an array of %d elements from %d on has no room for shape %s",
        target.length,
        start,
        Arrays.toString(shape));
    owner.checkOpen();
    long from = offset;
    int to = start;
    while (to - start < elements) {
      FloatBuffer segment = memory.segment(from);
      int place = memory.placeInSegment(from);
      int count = (int) Math.min(segment.capacity() - place, elements - (to - start));
      segment.get(place, target, to, count);
      from += count;
      to += count;
    }
    checkStillOpen();
  }

  /**
   * The elements as a direct buffer, without a copy, in the machine's byte order. The buffer stays
   * readable for as long as somebody holds it, also after {@link Activations#close}: the memory
   * behind it is then given back when the garbage collector finds the buffer unused, and not reused
   * before. Prefer {@link #toArray} or {@link #get} for short uses.
   */
  public FloatBuffer asBuffer() {
    owner.checkOpen();
    if (elements == 0) {
      return FloatBuffer.allocate(0).asReadOnlyBuffer();
    }
    BertologyException.check(
        elements <= memory.segment(offset).capacity() - memory.placeInSegment(offset),
        "a tensor of shape %s is too large for one buffer: take slices",
        Arrays.toString(shape));
    owner.pinMemory();
    int place = memory.placeInSegment(offset);
    return memory.segment(offset).slice(place, (int) elements).asReadOnlyBuffer();
  }

  /** Such as {@code FloatTensor[12, 7, 7]}. */
  @Override
  public String toString() {
    return "FloatTensor" + Arrays.toString(shape);
  }

  private float at(long index) {
    owner.checkOpen();
    long place = offset + index;
    float value = memory.segment(place).get(memory.placeInSegment(place));
    checkStillOpen();
    return value;
  }

  /**
   * After reading: if the owner was closed meanwhile, the memory may have been reused, and what was
   * read is worthless. It is mapped for as long as this object is reachable, so reading it never
   * crashes.
   */
  private void checkStillOpen() {
    VarHandle.loadLoadFence();
    owner.checkOpen();
  }

  private void checkRank(int rank) {
    if (shape.length != rank) {
      throw BertologyException.invalid(
          "%d indices for a tensor of shape %s", rank, Arrays.toString(shape));
    }
  }

  private void checkIndex(int dimension, long index) {
    if (index < 0 || index >= shape[dimension]) {
      throw BertologyException.invalid(
          "index %d of dimension %d is outside shape %s", index, dimension, Arrays.toString(shape));
    }
  }
}
