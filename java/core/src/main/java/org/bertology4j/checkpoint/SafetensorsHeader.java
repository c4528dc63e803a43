package org.bertology4j.checkpoint;

import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import org.bertology4j.BertologyException;

/** Reads the header of a safetensors file: eight bytes of length, then JSON. */
final class SafetensorsHeader {
  static final String METADATA = "__metadata__";
  static final int LENGTH_BYTES = Long.BYTES;

  // The limit of the format's own library.
  private static final long LARGEST = 100_000_000;
  private static final int MOST_TENSORS = 200_000;
  private static final int MOST_NUMBERS = 64;

  private final DataFile file;
  private final String where;
  private final Map<String, String> metadata = new LinkedHashMap<>();
  private final Map<String, SafetensorsFile.Tensor> tensors = new LinkedHashMap<>();
  private long dataStart;

  private SafetensorsHeader(DataFile file) {
    this.file = file;
    this.where = file.path().toString();
  }

  /** Reads and checks the header of a file. */
  static SafetensorsHeader read(DataFile file) {
    SafetensorsHeader header = new SafetensorsHeader(file);
    header.readAll();
    return header;
  }

  Map<String, String> metadata() {
    return Collections.unmodifiableMap(metadata);
  }

  /** The tensors, in the order of their data. */
  Map<String, SafetensorsFile.Tensor> tensors() {
    return Collections.unmodifiableMap(tensors);
  }

  private void readAll() {
    BertologyException.check(
        file.size() >= LENGTH_BYTES,
        "%s has %d bytes, expected a safetensors file, which begins with %d bytes of header length",
        where,
        file.size(),
        LENGTH_BYTES);
    ByteBuffer bytes = ByteBuffer.allocate(LENGTH_BYTES + 1).order(ByteOrder.LITTLE_ENDIAN);
    bytes.limit((int) Math.min(bytes.capacity(), file.size()));
    file.read(0, bytes);
    long length = bytes.getLong(0);
    BertologyException.check(
        length >= 0 && length <= file.size() - LENGTH_BYTES,
        "%s: the header's length is %s, and the file has %d bytes: it is truncated, or no"
            + " safetensors file",
        where,
        Long.toUnsignedString(length),
        file.size());
    BertologyException.check(
        length <= LARGEST,
        "%s: the header's length is %d, expected at most %d",
        where,
        length,
        LARGEST);
    BertologyException.check(
        length > 0 && bytes.get(LENGTH_BYTES) == '{',
        "%s: the header does not begin with '{': no safetensors file",
        where);
    dataStart = LENGTH_BYTES + length;
    Map<String, SafetensorsFile.Tensor> unordered =
        StrictJson.read(file, LENGTH_BYTES, length, where + ": header", this::readMembers);
    checkLayout(unordered);
  }

  private Map<String, SafetensorsFile.Tensor> readMembers(JsonReader json) throws IOException {
    Map<String, SafetensorsFile.Tensor> found = new LinkedHashMap<>();
    StrictJson.Members members = new StrictJson.Members(json, where + ": header");
    while (members.hasNext()) {
      String name = members.nextName();
      if (name.equals(METADATA)) {
        readMetadata(json);
        continue;
      }
      found.put(name, readTensor(json, name));
      BertologyException.check(
          found.size() <= MOST_TENSORS, "%s: more than %d tensors", where, MOST_TENSORS);
    }
    return found;
  }

  private void readMetadata(JsonReader json) throws IOException {
    StrictJson.Members members = new StrictJson.Members(json, where + ": " + METADATA);
    while (members.hasNext()) {
      String name = members.nextName();
      metadata.put(name, members.nextString(name));
    }
  }

  private SafetensorsFile.Tensor readTensor(JsonReader json, String name) throws IOException {
    String tensor = where + ": tensor " + Messages.quote(name);
    Optional<String> type = Optional.empty();
    Optional<List<Long>> shape = Optional.empty();
    Optional<List<Long>> offsets = Optional.empty();
    StrictJson.Members members = new StrictJson.Members(json, tensor);
    while (members.hasNext()) {
      String member = members.nextName();
      switch (member) {
        case "dtype" -> type = Optional.of(members.nextString(member));
        case "shape" -> shape = Optional.of(readNumbers(json, tensor, member));
        case "data_offsets" -> offsets = Optional.of(readNumbers(json, tensor, member));
        default ->
            throw BertologyException.invalid(
                "%s has the entry %s, expected dtype, shape and data_offsets",
                tensor, Messages.quote(member));
      }
    }
    BertologyException.check(
        type.isPresent() && shape.isPresent() && offsets.isPresent(),
        "%s has no %s",
        tensor,
        type.isEmpty() ? "dtype" : shape.isEmpty() ? "shape" : "data_offsets");
    return checked(tensor, name, type.get(), shape.get(), offsets.get());
  }

  private List<Long> readNumbers(JsonReader json, String tensor, String member) throws IOException {
    List<Long> numbers = new ArrayList<>();
    json.beginArray();
    while (json.hasNext()) {
      JsonToken token = json.peek();
      String text = token == JsonToken.NUMBER ? json.nextString() : token.toString();
      // 18 digits fit a long.
      BertologyException.check(
          text.matches("\\d{1,18}"),
          "%s: %s has %s, expected whole numbers of 0 or more",
          tensor,
          member,
          Messages.quote(text));
      numbers.add(Long.parseLong(text));
      BertologyException.check(
          numbers.size() <= MOST_NUMBERS,
          "%s: %s has more than %d numbers",
          tensor,
          member,
          MOST_NUMBERS);
    }
    json.endArray();
    return numbers;
  }

  private SafetensorsFile.Tensor checked(
      String tensor, String name, String typeName, List<Long> shape, List<Long> offsets) {
    SafetensorsType type =
        SafetensorsType.parse(typeName)
            .orElseThrow(
                () ->
                    BertologyException.invalid(
                        "%s: dtype %s is unknown", tensor, Messages.quote(typeName)));
    BertologyException.check(
        offsets.size() == 2, "%s: data_offsets has %d numbers, expected 2", tensor, offsets.size());
    long begin = offsets.get(0);
    long end = offsets.get(1);
    long dataBytes = file.size() - dataStart;
    BertologyException.check(
        begin <= end && end <= dataBytes,
        "%s: data_offsets are %s, and the file has %d bytes of data: it is truncated or damaged",
        tensor,
        offsets,
        dataBytes);
    OptionalLong bytes = Shapes.bytes(shape, type.bits());
    BertologyException.check(
        bytes.isPresent() && bytes.getAsLong() == end - begin,
        "%s: data_offsets %s are %d bytes, expected %s for %s of shape %s",
        tensor,
        offsets,
        end - begin,
        bytes.isPresent() ? String.valueOf(bytes.getAsLong()) : "a number that fits",
        type,
        shape);
    return new SafetensorsFile.Tensor(name, type, shape, dataStart + begin, end - begin);
  }

  /** The data must be one tensor after the other, from the first byte to the last. */
  private void checkLayout(Map<String, SafetensorsFile.Tensor> unordered) {
    List<SafetensorsFile.Tensor> ordered = new ArrayList<>(unordered.values());
    ordered.sort(
        Comparator.comparingLong(SafetensorsFile.Tensor::offset)
            .thenComparingLong(SafetensorsFile.Tensor::bytes));
    long next = dataStart;
    for (SafetensorsFile.Tensor tensor : ordered) {
      BertologyException.check(
          tensor.offset() == next,
          "%s: tensor %s begins at byte %d of the data, expected byte %d, where the tensor before"
              + " it ends: the data_offsets %s",
          where,
          Messages.quote(tensor.name()),
          tensor.offset() - dataStart,
          next - dataStart,
          tensor.offset() < next ? "overlap" : "leave a gap");
      tensors.put(tensor.name(), tensor);
      next += tensor.bytes();
    }
    BertologyException.check(
        next == file.size(),
        "%s: the tensors end at byte %d of the data, and the file has %d bytes of data",
        where,
        next - dataStart,
        file.size() - dataStart);
  }
}
