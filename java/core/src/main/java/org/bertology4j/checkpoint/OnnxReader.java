package org.bertology4j.checkpoint;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.bertology4j.BertologyException;

/**
 * Reads the graph of an ONNX file, and where the weights are in it: these are skipped, so the file
 * may be of any size.
 */
final class OnnxReader {
  // A BERT-large has 30 thousand parts and a megabyte of names; a damaged file must not fill the
  // memory.
  private static final int MOST_PARTS = 2_000_000;
  private static final int MOST_TEXT = 64 << 20;
  private static final int LONGEST_TEXT = 1 << 16;
  private static final int MOST_INTEGERS = 64;

  private static final int EXTERNAL = 1;

  /** Where torch's newer exporter says which module a node came from. */
  private static final String NAME_SCOPES = "pkg.torch.onnx.name_scopes";

  private final DataFile file;
  private final List<OnnxNode> nodes = new ArrayList<>();
  private final List<OnnxTensor> initializers = new ArrayList<>();
  private int parts;
  private long text;

  private OnnxReader(DataFile file) {
    this.file = file;
  }

  static OnnxGraph read(DataFile file) {
    OnnxReader reader = new OnnxReader(file);
    reader.readModel();
    return new OnnxGraph(file, reader.nodes, reader.initializers);
  }

  private void readModel() {
    ProtoReader model =
        new ProtoReader(
            ByteSource.of(file),
            new ProtoReader.Range(0, file.size()),
            file.path() + " is not an ONNX file that can be read");
    while (model.next()) {
      if (model.field() == 7) {
        readGraph(model.readMessage());
      }
    }
    BertologyException.check(
        !nodes.isEmpty(), "%s is not an ONNX file: it has no graph with nodes", file.path());
  }

  private void readGraph(ProtoReader graph) {
    while (graph.next()) {
      switch (graph.field()) {
        case 1 -> nodes.add(readNode(graph.readMessage()));
        case 5 -> initializers.add(readTensor(graph.readMessage()));
        default -> {}
      }
    }
  }

  private OnnxNode readNode(ProtoReader node) {
    countPart(node);
    List<String> inputs = new ArrayList<>();
    List<String> outputs = new ArrayList<>();
    Map<String, OnnxNode.Attribute> attributes = new HashMap<>();
    String name = "";
    String operation = "";
    String domain = "";
    String scopes = "";
    while (node.next()) {
      switch (node.field()) {
        case 1 -> inputs.add(readText(node));
        case 2 -> outputs.add(readText(node));
        case 3 -> name = readText(node);
        case 4 -> operation = readText(node);
        case 5 -> readAttribute(node.readMessage(), attributes);
        case 7 -> domain = readText(node);
        case 9 -> scopes = readEntry(node.readMessage(), NAME_SCOPES).orElse(scopes);
        default -> {}
      }
    }
    return new OnnxNode(
        operation,
        domain.isEmpty() || domain.equals("ai.onnx"),
        scopes.isEmpty() ? moduleOfName(name) : moduleOfScopes(scopes),
        inputs,
        outputs,
        attributes);
  }

  /** "/bert/encoder/layer.0/output/dense/MatMul" is of "bert.encoder.layer.0.output.dense". */
  private static String moduleOfName(String name) {
    int last = name.lastIndexOf('/');
    return last <= 0 ? "" : name.substring(name.startsWith("/") ? 1 : 0, last).replace('/', '.');
  }

  /** "['', 'bert', 'bert.pooler', 'bert.pooler.dense', 'linear_3']" is of "bert.pooler.dense". */
  private static String moduleOfScopes(String scopes) {
    String[] quoted = scopes.split("'", -1);
    return quoted.length >= 5 ? quoted[quoted.length - 4] : "";
  }

  private void readAttribute(ProtoReader attribute, Map<String, OnnxNode.Attribute> attributes) {
    countPart(attribute);
    String name = "";
    float number = 0;
    long integer = 0;
    String value = "";
    List<Long> integers = new ArrayList<>();
    Optional<OnnxTensor> tensor = Optional.empty();
    while (attribute.next()) {
      switch (attribute.field()) {
        case 1 -> name = readText(attribute);
        case 2 -> number = Float.intBitsToFloat(attribute.readFixed32());
        case 3 -> integer = attribute.readLong();
        case 4 -> value = readShort(attribute);
        case 5 -> tensor = Optional.of(readTensor(attribute.readMessage()));
        case 8 -> attribute.readLongs(each -> addNumber(attribute, integers, each));
        default -> {}
      }
    }
    attributes.put(name, new OnnxNode.Attribute(number, integer, value, integers, tensor));
  }

  private OnnxTensor readTensor(ProtoReader tensor) {
    countPart(tensor);
    List<Long> dims = new ArrayList<>();
    List<Long> integers = new ArrayList<>();
    Map<String, String> external = new HashMap<>();
    String name = "";
    int dataType = 0;
    int location = 0;
    List<ProtoReader.Range> data = new ArrayList<>();
    while (tensor.next()) {
      switch (tensor.field()) {
        case 1 -> tensor.readLongs(size -> addNumber(tensor, dims, size));
        case 2 -> dataType = tensor.readInt();
        // One range if it is packed, as it should be; element by element has a range for none.
        case 4, 9 -> addRange(tensor, data);
        case 7 ->
            tensor.readLongs(
                each -> {
                  if (integers.size() <= MOST_INTEGERS) {
                    addNumber(tensor, integers, each);
                  }
                });
        case 8 -> name = readText(tensor);
        case 13 -> readEntry(tensor.readMessage(), external);
        case 14 -> location = tensor.readInt();
        default -> {}
      }
    }
    return new OnnxTensor(
        name,
        dataType,
        dims,
        data.size() == 1 ? Optional.of(data.get(0)) : Optional.empty(),
        integers.size() <= MOST_INTEGERS ? integers : List.of(),
        location == EXTERNAL ? withLocation(external) : Map.of());
  }

  /** Not empty, even if the file forgot to say where. */
  private static Map<String, String> withLocation(Map<String, String> external) {
    external.putIfAbsent("location", "");
    return external;
  }

  private void addRange(ProtoReader tensor, List<ProtoReader.Range> ranges) {
    if (ranges.size() <= 1 && tensor.isBytes()) {
      ranges.add(tensor.readRange());
    }
  }

  private void addNumber(ProtoReader message, List<Long> numbers, long number) {
    countPart(message);
    numbers.add(number);
  }

  private Optional<String> readEntry(ProtoReader entry, String wanted) {
    Map<String, String> entries = new HashMap<>();
    readEntry(entry, entries);
    return Optional.ofNullable(entries.get(wanted));
  }

  private void readEntry(ProtoReader entry, Map<String, String> entries) {
    String key = "";
    String value = "";
    while (entry.next()) {
      switch (entry.field()) {
        case 1 -> key = readShort(entry);
        case 2 -> value = readShort(entry);
        default -> {}
      }
    }
    entries.put(key, value);
  }

  /** A text that matters. */
  private String readText(ProtoReader message) {
    countPart(message);
    return count(message, message.readString(LONGEST_TEXT));
  }

  /** A text that may be a long one of no interest, such as a stack trace: then it is empty. */
  private String readShort(ProtoReader message) {
    ProtoReader.Range range = message.readRange();
    return range.length() > LONGEST_TEXT ? "" : count(message, message.text(range));
  }

  private String count(ProtoReader message, String value) {
    text += value.length();
    if (text > MOST_TEXT) {
      throw message.damaged("more than " + MOST_TEXT + " characters of names");
    }
    return value;
  }

  private void countPart(ProtoReader message) {
    if (++parts > MOST_PARTS) {
      throw message.damaged("more than " + MOST_PARTS + " parts");
    }
  }
}
