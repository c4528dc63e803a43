package org.bertology4j.checkpoint;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Writes ONNX graphs of a BERT of one layer, in whatever style an exporter may have: only what
 * matters for the weights and the configuration is connected.
 */
final class TinyOnnx {
  static final int FLOAT = 1;
  static final int INT64 = 7;
  static final int FLOAT16 = 10;
  static final int DOUBLE = 11;
  static final int BFLOAT16 = 16;

  /** How a product with a matrix is written. */
  enum Product {
    /** MatMul with the transposed matrix, then Add. */
    MATMUL,
    /** MatMul with the matrix through a Transpose node, then Add. */
    TRANSPOSE,
    /** Gemm with transB. */
    GEMM_TRANSPOSED,
    /** Gemm without transB. */
    GEMM
  }

  private static final int HIDDEN = 4;
  private static final int INTERMEDIATE = 6;

  private final Map<String, float[]> expected = new LinkedHashMap<>();
  private final Map<String, ProtoBytes> initializers = new LinkedHashMap<>();
  private final List<ProtoBytes> nodes = new ArrayList<>();
  private int values;

  Product product = Product.MATMUL;
  boolean nodesHaveNames = true;
  String activation = "Erf";
  String domain = "";

  /** Adds the nodes of the model, but for what splits the heads. */
  TinyOnnx build() {
    embedding("word", 5);
    embedding("position", 3);
    embedding("token_type", 2);
    norm("embeddings.LayerNorm");
    String layer = "encoder.layer.0.";
    for (String name : List.of("query", "key", "value")) {
      linear(layer + "attention.self." + name, HIDDEN, HIDDEN);
    }
    linear(layer + "attention.output.dense", HIDDEN, HIDDEN);
    norm(layer + "attention.output.LayerNorm");
    linear(layer + "intermediate.dense", INTERMEDIATE, HIDDEN);
    node(activation, "", List.of(out(layer + "intermediate.dense")), out("activation"));
    linear(layer + "output.dense", HIDDEN, INTERMEDIATE, out("activation"));
    norm(layer + "output.LayerNorm");
    return this;
  }

  /** Adds the matrix that predicts masked tokens. */
  TinyOnnx decoder(float[] table) {
    return matrix("cls.predictions.decoder", table, 5, HIDDEN, "x");
  }

  /** Splits the heads by a constant shape. */
  TinyOnnx reshape(long... shape) {
    ByteBuffer bytes = ByteBuffer.allocate(8 * shape.length).order(ByteOrder.LITTLE_ENDIAN);
    for (long size : shape) {
      bytes.putLong(size);
    }
    initializer("shape", tensor("shape", INT64, shape.length).bytes(9, bytes.array()));
    return reshape("shape");
  }

  TinyOnnx reshape(String shape) {
    return node(
        "Reshape", "", List.of(out("encoder.layer.0.attention.self.query"), shape), out("heads"));
  }

  /** The parameter's values as its shape says. */
  Map<String, float[]> expected() {
    return expected;
  }

  private static String out(String name) {
    return name + "_out";
  }

  private void embedding(String kind, int rows) {
    String name = "embeddings." + kind + "_embeddings";
    float[] table = fresh(name + ".weight", rows * HIDDEN);
    initializer(name + ".weight", floats(name + ".weight", table, rows, HIDDEN));
    node("Gather", name, List.of(name + ".weight", kind + "_ids"), out(name));
  }

  private void norm(String name) {
    for (String kind : List.of(".weight", ".bias")) {
      initializer(name + kind, floats(name + kind, fresh(name + kind, HIDDEN), HIDDEN));
    }
    ProtoBytes epsilon =
        new ProtoBytes().text(1, "epsilon").fixed32(2, Float.floatToIntBits(1e-7f));
    node(
        "LayerNormalization",
        name,
        List.of("x", name + ".weight", name + ".bias"),
        out(name),
        epsilon);
  }

  private void linear(String name, int outputs, int inputs) {
    linear(name, outputs, inputs, "x");
  }

  private void linear(String name, int outputs, int inputs, String input) {
    float[] bias = fresh(name + ".bias", outputs);
    initializer(name + ".bias", floats(name + ".bias", bias, outputs));
    matrix(name, fresh(name + ".weight", outputs * inputs), outputs, inputs, input);
  }

  private TinyOnnx matrix(String name, float[] matrix, int outputs, int inputs, String input) {
    String weight = "onnx::MatMul_" + values++;
    boolean transposed = product == Product.MATMUL || product == Product.GEMM;
    initializer(
        weight,
        transposed
            ? floats(weight, transpose(matrix, outputs, inputs), inputs, outputs)
            : floats(weight, matrix, outputs, inputs));
    if (product == Product.GEMM || product == Product.GEMM_TRANSPOSED) {
      ProtoBytes transB = new ProtoBytes().text(1, "transB").number(3, transposed ? 0 : 1);
      return node("Gemm", name, List.of(input, weight, name + ".bias"), out(name), transB);
    }
    String operand = weight;
    if (product == Product.TRANSPOSE) {
      operand = out(weight);
      node("Transpose", "", List.of(weight), operand);
    }
    return node("MatMul", name, List.of(input, operand), "product_" + name)
        .node("Add", name, List.of("product_" + name, name + ".bias"), out(name));
  }

  private float[] fresh(String name, int count) {
    float[] numbers = new float[count];
    for (int i = 0; i < count; i++) {
      numbers[i] = ++values;
    }
    expected.put(name, numbers);
    return numbers;
  }

  private static float[] transpose(float[] matrix, int rows, int columns) {
    float[] transposed = new float[matrix.length];
    for (int i = 0; i < matrix.length; i++) {
      transposed[i % columns * rows + i / columns] = matrix[i];
    }
    return transposed;
  }

  static ProtoBytes floats(String name, float[] numbers, long... dims) {
    ByteBuffer bytes = ByteBuffer.allocate(4 * numbers.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(numbers);
    return tensor(name, FLOAT, dims).bytes(9, bytes.array());
  }

  static ProtoBytes tensor(String name, int type, long... dims) {
    ProtoBytes tensor = new ProtoBytes().number(2, type).text(8, name);
    for (long size : dims) {
      tensor.number(1, size);
    }
    return tensor;
  }

  /** Adds an initializer, or replaces the one of this name. */
  TinyOnnx initializer(String name, ProtoBytes tensor) {
    initializers.put(name, tensor);
    return this;
  }

  TinyOnnx without(String initializer) {
    initializers.remove(initializer);
    return this;
  }

  TinyOnnx node(
      String operation,
      String module,
      List<String> inputs,
      String output,
      ProtoBytes... attributes) {
    ProtoBytes node = new ProtoBytes();
    inputs.forEach(input -> node.text(1, input));
    node.text(2, output).text(4, operation).text(7, domain);
    if (nodesHaveNames) {
      node.text(3, "/" + module.replace('.', '/') + "/" + operation);
    }
    for (ProtoBytes attribute : attributes) {
      node.message(5, attribute);
    }
    nodes.add(node);
    return this;
  }

  byte[] toBytes() {
    ProtoBytes graph = new ProtoBytes();
    nodes.forEach(node -> graph.message(1, node));
    initializers.values().forEach(tensor -> graph.message(5, tensor));
    return new ProtoBytes().number(1, 8).text(2, "test").message(7, graph).toBytes();
  }

  Path write(Path file) throws IOException {
    return Files.write(file, toBytes());
  }
}
