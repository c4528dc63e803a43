package org.bertology4j.internal;

import java.lang.ref.Cleaner;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.concurrent.atomic.AtomicInteger;
import org.bertology4j.internal.binding.bertology;
import org.bertology4j.internal.binding.bertology_activations;
import org.bertology4j.internal.binding.bertology_device;
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

  /** Floats of a segment: direct buffers end at 2^31 bytes. */
  private static final int SEGMENT_BITS = 28;

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
      long length = Math.min(1L << SEGMENT_BITS, floats - first);
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
    Native.check(bertology.bertology_activations_discard(handle));
  }

  /** Memory that somebody else frees. */
  private static final class Region extends Pointer {
    Region(long start, long bytes) {
      super((Pointer) null);
      address = start;
      limit = bytes;
      capacity = bytes;
    }
  }
}
