package org.bertology4j.checkpoint;

import com.google.gson.stream.JsonWriter;
import java.io.IOException;
import java.io.StringWriter;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.WritableByteChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Function;
import org.bertology4j.BertologyException;

/** Writes safetensors files, tensor by tensor, never holding more than a piece of one. */
public final class SafetensorsWriter {
  /** The entries that Hugging Face expects in a file of weights. */
  public static final Map<String, String> HUGGING_FACE_METADATA = Map.of("format", "pt");

  private static final int ALIGNMENT = 8;

  private SafetensorsWriter() {}

  /**
   * The name, type and shape of a tensor to be written.
   *
   * @param type how its elements are stored, little-endian
   */
  public record Tensor(String name, SafetensorsType type, List<Long> shape) {
    /** A tensor; the shape is copied. */
    public Tensor {
      shape = List.copyOf(shape);
    }

    /** Number of bytes. */
    public long bytes() {
      return Shapes.bytes(shape, type.bits())
          .orElseThrow(
              () ->
                  BertologyException.invalid(
                      "tensor %s: no file can hold %s of shape %s",
                      Messages.quote(name), type, shape));
    }
  }

  /**
   * A tensor and its content.
   *
   * @param content writes its bytes, as many as type and shape say; called once, when it is its
   *     turn
   */
  public record Entry(Tensor tensor, AtomicFiles.Content content) {
    /** An entry. */
    public Entry(String name, SafetensorsType type, List<Long> shape, AtomicFiles.Content content) {
      this(new Tensor(name, type, shape), content);
    }

    /** An entry whose bytes are in memory, from the buffer's position to its limit. */
    public static Entry of(String name, SafetensorsType type, List<Long> shape, ByteBuffer bytes) {
      return new Entry(
          name, type, shape, channel -> AtomicFiles.writeFully(channel, bytes.duplicate()));
    }
  }

  /**
   * Writes a file, whole or not at all: see {@link AtomicFiles}.
   *
   * <p>The tensors keep their order, except that those of wider elements come first, so that each
   * one begins at a multiple of its element's size, which some readers need.
   *
   * @param metadata the file's own entries, {@link #HUGGING_FACE_METADATA} for weights
   * @throws BertologyException of kind IO if it cannot be written; of kind INVALID_ARGUMENT if a
   *     name is there twice or a content has not the size that it should have
   */
  public static void write(Path target, Map<String, String> metadata, List<Entry> entries) {
    try (StagedFiles files = new StagedFiles()) {
      stage(files, target, metadata, entries);
      files.commit();
    }
  }

  /** The same as one of several files, which the caller commits. */
  public static void stage(
      StagedFiles files, Path target, Map<String, String> metadata, List<Entry> entries) {
    Plan<Entry> plan = new Plan<>(metadata, entries, Entry::tensor);
    files.write(
        target,
        plan.bytes(),
        channel -> {
          AtomicFiles.writeFully(channel, plan.beginning());
          for (Entry entry : plan.ordered()) {
            CountingChannel counting = new CountingChannel(channel, entry.tensor());
            entry.content().writeTo(counting);
            counting.checkComplete();
          }
        });
  }

  /** Takes pieces of tensors, in any order; what is never written is zero. */
  @FunctionalInterface
  public interface Pieces {
    /**
     * Writes a piece of a tensor.
     *
     * @param name of the tensor
     * @param offset of its first byte, counted from the tensor's beginning
     * @param bytes from the buffer's position to its limit
     */
    void write(String name, long offset, ByteBuffer bytes) throws IOException;
  }

  /** Writes all pieces. */
  @FunctionalInterface
  public interface PieceWriter {
    /** Writes all pieces. */
    void writeTo(Pieces pieces) throws IOException;
  }

  /**
   * Writes a file, whole or not at all, whose tensors come in pieces: some examples of each, say.
   *
   * @param metadata the file's own entries
   * @throws BertologyException as {@link #write}; of kind INVALID_ARGUMENT also if a piece is not
   *     within its tensor
   */
  public static void writePieces(
      Path target, Map<String, String> metadata, List<Tensor> tensors, PieceWriter content) {
    Plan<Tensor> plan = new Plan<>(metadata, tensors, tensor -> tensor);
    AtomicFiles.writePieces(
        target,
        plan.bytes(),
        channel -> {
          AtomicFiles.writeFully(channel, plan.beginning(), 0);
          if (plan.bytes() > channel.size()) {
            // The last byte first: a disk that is full says so before any work is done, if it can.
            AtomicFiles.writeFully(channel, ByteBuffer.allocate(1), plan.bytes() - 1);
          }
          content.writeTo(
              (name, offset, bytes) ->
                  AtomicFiles.writeFully(channel, bytes, plan.place(name, offset, bytes)));
        });
  }

  /** Where everything goes. */
  private static final class Plan<T> {
    private final List<T> ordered;
    private final byte[] header;
    private final Map<String, Tensor> tensors = new HashMap<>();
    private final Map<String, Long> places = new HashMap<>();
    private final long bytes;

    Plan(Map<String, String> metadata, List<T> items, Function<T, Tensor> tensorOf) {
      ordered = new ArrayList<>(items);
      ordered.sort(
          Comparator.comparingInt((T item) -> tensorOf.apply(item).type().bits()).reversed());
      List<Tensor> inOrder = ordered.stream().map(tensorOf).toList();
      header = header(metadata, inOrder);
      long end = SafetensorsHeader.LENGTH_BYTES + header.length;
      for (Tensor tensor : inOrder) {
        tensors.put(tensor.name(), tensor);
        places.put(tensor.name(), end);
        end = Math.addExact(end, tensor.bytes());
      }
      bytes = end;
    }

    List<T> ordered() {
      return ordered;
    }

    long bytes() {
      return bytes;
    }

    /** The length of the header, and the header. */
    ByteBuffer beginning() {
      return ByteBuffer.allocate(SafetensorsHeader.LENGTH_BYTES + header.length)
          .order(ByteOrder.LITTLE_ENDIAN)
          .putLong(header.length)
          .put(header)
          .flip();
    }

    long place(String name, long offset, ByteBuffer piece) {
      Tensor tensor = tensors.get(name);
      BertologyException.check(
          tensor != null
              && offset >= 0
              && offset <= tensor.bytes()
              && piece.remaining() <= tensor.bytes() - offset,
          "a piece of %d bytes at byte %d is not within tensor %s of %d bytes",
          piece.remaining(),
          offset,
          Messages.quote(name),
          tensor == null ? 0 : tensor.bytes());
      return places.get(name) + offset;
    }
  }

  private static byte[] header(Map<String, String> metadata, List<Tensor> tensors) {
    StringWriter text = new StringWriter();
    try (JsonWriter json = new JsonWriter(text)) {
      json.beginObject();
      if (!metadata.isEmpty()) {
        json.name(SafetensorsHeader.METADATA).beginObject();
        for (Map.Entry<String, String> entry : new TreeMap<>(metadata).entrySet()) {
          json.name(entry.getKey()).value(entry.getValue());
        }
        json.endObject();
      }
      writeTensors(json, tensors);
      json.endObject();
    } catch (IOException e) {
      throw new IllegalStateException("a text in memory cannot be written", e);
    }
    byte[] bytes = text.toString().getBytes(StandardCharsets.UTF_8);
    int padded = (bytes.length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    byte[] header = new byte[padded];
    Arrays.fill(header, (byte) ' ');
    System.arraycopy(bytes, 0, header, 0, bytes.length);
    return header;
  }

  private static void writeTensors(JsonWriter json, List<Tensor> tensors) throws IOException {
    Set<String> names = new HashSet<>();
    long begin = 0;
    for (Tensor tensor : tensors) {
      BertologyException.check(
          names.add(tensor.name()) && !tensor.name().equals(SafetensorsHeader.METADATA),
          "a tensor cannot be called %s: the name is taken",
          Messages.quote(tensor.name()));
      long end = Math.addExact(begin, tensor.bytes());
      json.name(tensor.name()).beginObject();
      json.name("dtype").value(tensor.type().name());
      json.name("shape").beginArray();
      for (long size : tensor.shape()) {
        json.value(size);
      }
      json.endArray();
      json.name("data_offsets").beginArray().value(begin).value(end).endArray();
      json.endObject();
      begin = end;
    }
  }

  /** Lets through as many bytes as the tensor has. */
  private static final class CountingChannel implements WritableByteChannel {
    private final WritableByteChannel channel;
    private final Tensor tensor;
    private long written;

    CountingChannel(WritableByteChannel channel, Tensor tensor) {
      this.channel = channel;
      this.tensor = tensor;
    }

    @Override
    public int write(ByteBuffer bytes) throws IOException {
      BertologyException.check(
          bytes.remaining() <= tensor.bytes() - written,
          "tensor %s: its content has at least %d bytes, expected %d for %s of shape %s",
          Messages.quote(tensor.name()),
          written + bytes.remaining(),
          tensor.bytes(),
          tensor.type(),
          tensor.shape());
      int count = channel.write(bytes);
      written += count;
      return count;
    }

    void checkComplete() {
      BertologyException.check(
          written == tensor.bytes(),
          "tensor %s: its content has %d bytes, expected %d for %s of shape %s",
          Messages.quote(tensor.name()),
          written,
          tensor.bytes(),
          tensor.type(),
          tensor.shape());
    }

    @Override
    public boolean isOpen() {
      return channel.isOpen();
    }

    @Override
    public void close() {
      // The file belongs to the writer.
    }
  }
}
