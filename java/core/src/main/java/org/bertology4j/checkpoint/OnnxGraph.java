package org.bertology4j.checkpoint;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** An ONNX graph: nodes, constants, and which node makes and uses which value. */
final class OnnxGraph {
  // Nodes between a constant and its use, such as Identity, Cast, Transpose.
  private static final int MOST_STEPS = 8;

  private final DataFile file;
  private final List<OnnxNode> nodes;
  private final Map<String, OnnxTensor> constants = new LinkedHashMap<>();
  private final Map<String, OnnxNode> producers = new HashMap<>();
  private final Map<String, List<OnnxNode>> consumers = new HashMap<>();

  OnnxGraph(DataFile file, List<OnnxNode> nodes, List<OnnxTensor> initializers) {
    this.file = file;
    this.nodes = List.copyOf(nodes);
    initializers.forEach(tensor -> constants.put(tensor.name(), tensor));
    for (OnnxNode node : nodes) {
      node.outputs().forEach(output -> producers.put(output, node));
      node.inputs()
          .forEach(input -> consumers.computeIfAbsent(input, i -> new ArrayList<>()).add(node));
      if (node.is("Constant") && !node.outputs().isEmpty()) {
        node.attribute("value")
            .flatMap(OnnxNode.Attribute::tensor)
            .ifPresent(tensor -> constants.put(node.outputs().get(0), tensor));
      }
    }
  }

  /** The graph's file. */
  DataFile file() {
    return file;
  }

  /** All nodes, in the order of the file. */
  List<OnnxNode> nodes() {
    return nodes;
  }

  /** Initializers, and the tensors of Constant nodes, by the name of the value. */
  Map<String, OnnxTensor> constants() {
    return Collections.unmodifiableMap(constants);
  }

  /** The node that makes a value. */
  Optional<OnnxNode> producer(String value) {
    return Optional.ofNullable(producers.get(value));
  }

  /** The nodes that use a value. */
  List<OnnxNode> consumers(String value) {
    return consumers.getOrDefault(value, List.of());
  }

  /**
   * A constant that is an operand of a node.
   *
   * @param names what it is called, from the constant itself to the operand
   * @param transposed whether it is a matrix that was transposed on the way
   */
  record Operand(OnnxTensor tensor, List<String> names, boolean transposed) {}

  /** The constant behind a value, if that is only renamed, converted or transposed on the way. */
  Optional<Operand> operand(String value) {
    List<String> names = new ArrayList<>();
    boolean transposed = false;
    String at = value;
    for (int step = 0; step < MOST_STEPS && !at.isEmpty(); step++) {
      names.add(0, at);
      if (constants.containsKey(at)) {
        return Optional.of(new Operand(constants.get(at), List.copyOf(names), transposed));
      }
      OnnxNode node = producers.get(at);
      if (node == null) {
        return Optional.empty();
      }
      if (isMatrixTranspose(node)) {
        transposed = !transposed;
      } else if (!node.is("Identity") && !node.is("Cast")) {
        return Optional.empty();
      }
      at = node.input(0);
    }
    return Optional.empty();
  }

  private static boolean isMatrixTranspose(OnnxNode node) {
    List<Long> order =
        node.attribute("perm").map(OnnxNode.Attribute::integers).orElse(List.of(1L, 0L));
    return node.is("Transpose") && order.equals(List.of(1L, 0L));
  }

  /** The whole numbers that a constant value consists of. */
  Optional<List<Long>> integers(String value) {
    if (constants.containsKey(value)) {
      return constants.get(value).readIntegers(file);
    }
    Optional<OnnxNode> constant = producer(value).filter(node -> node.is("Constant"));
    Optional<List<Long>> several =
        constant.flatMap(node -> node.attribute("value_ints")).map(OnnxNode.Attribute::integers);
    return several.isPresent()
        ? several
        : constant
            .flatMap(node -> node.attribute("value_int"))
            .map(attribute -> List.of(attribute.integer()));
  }

  /** The number that a constant value is. */
  Optional<Double> scalar(String value) {
    if (constants.containsKey(value)) {
      return constants.get(value).readScalar(file);
    }
    return producer(value)
        .filter(node -> node.is("Constant"))
        .flatMap(node -> node.attribute("value_float"))
        .map(attribute -> (double) attribute.number());
  }
}
