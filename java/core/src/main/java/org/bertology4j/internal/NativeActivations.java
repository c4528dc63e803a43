package org.bertology4j.internal;

import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.concurrent.atomic.AtomicInteger;
import org.bertology4j.internal.binding.bertology;
import org.bertology4j.internal.binding.bertology_activations;
import org.bertology4j.internal.binding.bertology_device;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;

/**
 * The memory in which a run leaves its results, reused from run to run.
 *
 * <p>It is unmapped only when nothing that could read it is reachable any more: neither this object
 * nor a buffer into its memory. So a thread that reads while another one closes gets wrong numbers
 * at worst, and finds that out, but never a crash. Its pages go back to the system earlier, by
 * {@link #discard}.
 */
public final class NativeActivations {
  private static final Cleaner CLEANER = Cleaner.create();

  /**
   * Floats from the start of a segment to that of the next. A segment is nearly twice as long, as
   * long as a direct buffer can be, so that a tensor that begins in one and is not longer than this
   * is in it as a whole.
   */
  private static final int SEGMENT_BITS = 28;

  private static final long SEGMENT_FLOATS = Integer.MAX_VALUE / Float.BYTES;

  private final bertology_activations handle;
  private final AtomicInteger readers = new AtomicInteger();
  private final long[] memory = new long[2];
  private volatile FloatBuffer[] segments = new FloatBuffer[0];
  private long mappedAddress;
  private long mappedBytes;

  /** Activations for runs on models of this device. */
  public NativeActivations(bertology_device device) {
    bertology_activations created = new bertology_activations((Pointer) null);
    Native.check(bertology.bertology_activations_create(device, created));
    handle = created;
    freeWithLastOf(this, created, readers);
  }

  /** Frees the handle when all objects that this was called for are unreachable. */
  private static void freeWithLastOf(
      Object object, bertology_activations handle, AtomicInteger readers) {
    readers.incrementAndGet();
    CLEANER.register(
        object,
        () -> {
          if (readers.decrementAndGet() == 0) {
            bertology.bertology_activations_free(handle);
          }
        });
  }

  /** The native handle. */
  public bertology_activations handle() {
    return handle;
  }

  /** After a run: makes the buffers anew if the memory has moved. */
  public void mapMemory() {
    Native.check(bertology.bertology_activations_memory(handle, memory));
    if (memory[0] == mappedAddress && memory[1] == mappedBytes) {
      return;
    }
    long floats = memory[1] / Float.BYTES;
    int count = (int) ((floats + (1L << SEGMENT_BITS) - 1) >>> SEGMENT_BITS);
    FloatBuffer[] mapped = new FloatBuffer[count];
    for (int i = 0; i < count; i++) {
      long first = (long) i << SEGMENT_BITS;
      long length = Math.min(SEGMENT_FLOATS, floats - first);
      ByteBuffer bytes =
          new Region(memory[0] + first * Float.BYTES, length * Float.BYTES).asByteBuffer();
      // Views of a direct buffer keep it reachable; it keeps the memory.
      freeWithLastOf(bytes, handle, readers);
      mapped[i] = bytes.order(ByteOrder.nativeOrder()).asFloatBuffer();
    }
    segments = mapped;
    mappedAddress = memory[0];
    mappedBytes = memory[1];
  }

  /** The buffer that has the float at this place of the memory. */
  public FloatBuffer segment(long place) {
    return segments[(int) (place >>> SEGMENT_BITS)];
  }

  /** Where in its segment the float is. */
  public int placeInSegment(long place) {
    return (int) (place & ((1L << SEGMENT_BITS) - 1));
  }

  /** Gives the pages back to the system; reading them gives zeros from then on. */
  public void discard() {
    try {
      Native.check(bertology.bertology_activations_discard(handle));
    } finally {
      Reference.reachabilityFence(this); // its memory is not freed during the call
    }
  }

  /** Bytes that somebody else frees. */
  private static final class Region extends BytePointer {
    Region(long start, long bytes) {
      super((Pointer) null);
      address = start;
      limit = bytes;
      capacity = bytes;
    }
  }
}
