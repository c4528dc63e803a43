package org.bertology4j.checkpoint;

import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A node of an ONNX graph.
 *
 * @param operation its operation, such as MatMul
 * @param standard whether the operation is one of ONNX itself
 * @param module the module of the original model that it came from, in Hugging Face's style, such
 *     as {@code bert.encoder.layer.0.attention.self.query}; empty if it is not known
 * @param inputs names of the values that go in, empty for one that is left out
 * @param outputs names of the values that come out
 */
record OnnxNode(
    String operation,
    boolean standard,
    String module,
    List<String> inputs,
    List<String> outputs,
    Map<String, Attribute> attributes) {

  /** An attribute; what is not of its type is zero or empty. */
  record Attribute(
      float number, long integer, String text, List<Long> integers, Optional<OnnxTensor> tensor) {
    /** An attribute; the list is copied. */
    Attribute {
      integers = List.copyOf(integers);
    }
  }

  /** A node; the collections are copied. */
  OnnxNode {
    inputs = List.copyOf(inputs);
    outputs = List.copyOf(outputs);
    attributes = Map.copyOf(attributes);
  }

  boolean is(String wanted) {
    return standard && operation.equals(wanted);
  }

  Optional<Attribute> attribute(String name) {
    return Optional.ofNullable(attributes.get(name));
  }

  long integer(String name, long otherwise) {
    return attribute(name).map(Attribute::integer).orElse(otherwise);
  }

  float number(String name, float otherwise) {
    return attribute(name).map(Attribute::number).orElse(otherwise);
  }

  /** The name of an input; empty if there are not so many. */
  String input(int index) {
    return index < inputs.size() ? inputs.get(index) : "";
  }
}
