package org.bertology4j.internal;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import org.bertology4j.BertologyException;
import org.bertology4j.BertologyException.Kind;
import org.bertology4j.checkpoint.Checkpoint;
import org.bertology4j.checkpoint.StoredTensor;
import org.bertology4j.internal.binding.bertology;
import org.bertology4j.internal.binding.bertology_tensor;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;

/**
 * Tensors on their way from a checkpoint to the native core: their bytes in direct memory, and the
 * structs that describe them.
 *
 * <p>Nothing here is allocated by JavaCPP: its allocations fail when the process is large against
 * the Java heap, and a process with a model in it is.
 */
public final class TensorStaging {
  private final int capacity;
  private final ByteBuffer descriptions;
  private final bertology_tensor tensors;
  private final List<ByteBuffer> data = new ArrayList<>();
  private ByteBuffer reused = ByteBuffer.allocateDirect(0);
  private StoredTensor last;
  private ByteBuffer lastBytes;

  /** Room for so many tensors. */
  public TensorStaging(int capacity) {
    this.capacity = capacity;
    descriptions = direct((long) capacity * new bertology_tensor((Pointer) null).sizeof());
    tensors = new bertology_tensor(new BytePointer(descriptions));
  }

  /**
   * Reads a parameter into place {@code index} from the tensor that has it. The memory of what was
   * there before is used again if it is large enough, and as it is if it is the same tensor.
   */
  public void read(
      int index, Checkpoint checkpoint, StoredTensor tensor, ParameterMap.Entry parameter) {
    tensor.checkFitsBuffer();
    if (!tensor.equals(last)) {
      last = null;
      lastBytes = capacity == 1 ? reuse(tensor.bytes()) : direct(tensor.bytes());
      checkpoint.read(tensor, lastBytes);
      last = tensor;
    }
    describe(index, tensor, parameter, lastBytes.duplicate());
  }

  /** A tensor of float32 values at place {@code index}. */
  public void set(int index, float[] values, long... shape) {
    ByteBuffer bytes = direct((long) values.length * Float.BYTES).order(ByteOrder.nativeOrder());
    bytes.asFloatBuffer().put(values);
    describe(
        index,
        bertology.BERTOLOGY_FLOAT32,
        shape,
        new long[] {shape.length == 2 ? shape[1] : 1, 1},
        bytes);
  }

  private ByteBuffer reuse(long bytes) {
    if (reused.capacity() < bytes) {
      reused = ByteBuffer.allocateDirect(0); // the old one may go before the new one comes
      reused = direct(bytes);
    }
    return reused.clear().limit((int) bytes);
  }

  private static ByteBuffer direct(long bytes) {
    try {
      return ByteBuffer.allocateDirect(Math.toIntExact(bytes));
    } catch (OutOfMemoryError e) {
      throw new BertologyException(
          Kind.OUT_OF_MEMORY,
          "no direct memory for a tensor of "
              + bytes
              + " bytes: raise -XX:MaxDirectMemorySize or -Xmx",
          e);
    }
  }

  private void describe(
      int index, StoredTensor tensor, ParameterMap.Entry parameter, ByteBuffer bytes) {
    int dtype =
        switch (tensor.type()) {
          case FLOAT32 -> bertology.BERTOLOGY_FLOAT32;
          case FLOAT16 -> bertology.BERTOLOGY_FLOAT16;
          case BFLOAT16 -> bertology.BERTOLOGY_BFLOAT16;
        };
    long[] shape = tensor.shape().stream().mapToLong(Long::longValue).toArray();
    long[] strides = {shape.length == 2 ? shape[1] : 1, 1};
    if (tensor.transposed()) {
      strides = new long[] {1, shape[0]};
    }
    bytes.clear();
    if (parameter.isFused()) {
      int divided = shape.length - 1;
      BertologyException.check(
          shape.length > 0 && shape[divided] % 3 == 0,
          "shape %s, expected a multiple of three at its end, for queries, keys and values",
          tensor.shape());
      shape[divided] /= 3;
      bytes.position(
          Math.toIntExact(
              parameter.fusedPart() * shape[divided] * strides[divided] * tensor.type().bytes()));
    }
    if (parameter.inputsFirst() && shape.length == 2) {
      shape = new long[] {shape[1], shape[0]};
      strides = new long[] {strides[1], strides[0]};
    }
    describe(index, dtype, shape, strides, bytes.slice());
  }

  private void describe(int index, int dtype, long[] shape, long[] strides, ByteBuffer bytes) {
    while (data.size() <= index) {
      data.add(bytes);
    }
    data.set(index, bytes); // keeps it reachable
    bertology_tensor at = tensors.position(index);
    at.dtype(dtype);
    at.rank(shape.length);
    for (int i = 0; i < 2; i++) {
      at.shape(i, i < shape.length ? shape[i] : 0);
      at.strides(i, i < strides.length ? strides[i] : 0);
    }
    at.data(new BytePointer(bytes.duplicate().clear()));
  }

  /** The structs, the first at its position. */
  public bertology_tensor tensors() {
    return tensors.position(0);
  }
}
