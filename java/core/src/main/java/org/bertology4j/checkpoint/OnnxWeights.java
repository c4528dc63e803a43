package org.bertology4j.checkpoint;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.bertology4j.BertologyException;

/**
 * Finds out which constant of a graph is which parameter.
 *
 * <p>Exporters keep the names of some parameters, make up others (a matrix that they stored
 * transposed), and let equal parameters share one constant. So a constant is named by its own name,
 * and by the module of each node that uses it as a weight or bias. How a matrix is stored is told
 * by the node that multiplies with it.
 */
final class OnnxWeights {
  /** Operations on quantised weights. */
  private static final Set<String> QUANTISED =
      Set.of(
          "MatMulInteger",
          "QLinearMatMul",
          "QGemm",
          "DequantizeLinear",
          "DynamicQuantizeMatMul",
          "MatMulIntegerToFloat",
          "MatMulNBits",
          "QAttention");

  /** Operations of onnxruntime that stand for many nodes. */
  private static final Set<String> FUSED =
      Set.of(
          "Attention",
          "MultiHeadAttention",
          "EmbedLayerNormalization",
          "SkipLayerNormalization",
          "FusedMatMul",
          "FusedGemm");

  private final OnnxGraph graph;
  private final DataFiles files;
  private final List<Use> uses = new ArrayList<>();
  private final Map<String, OnnxNode> linearNodes = new LinkedHashMap<>();
  private final Map<String, OnnxNode> normNodes = new LinkedHashMap<>();

  /**
   * A use of a constant.
   *
   * @param names what it may be called, the best guess first, perhaps with a prefix
   * @param transposed whether it is stored as the transpose of the parameter
   * @param linear whether a node multiplies by it as a matrix
   */
  private record Use(
      OnnxNode node,
      List<String> names,
      OnnxGraph.Operand operand,
      boolean transposed,
      boolean linear) {}

  OnnxWeights(OnnxGraph graph, DataFiles files) {
    this.graph = graph;
    this.files = files;
    graph.nodes().forEach(this::addUses);
  }

  /** The node that multiplies by a weight, by its canonical name; after {@link #weights}. */
  Optional<OnnxNode> linearNode(String weight) {
    return Optional.ofNullable(linearNodes.get(weight));
  }

  /** The node that scales by a layer norm's weight, by its canonical name. */
  Optional<OnnxNode> normNode(String weight) {
    return Optional.ofNullable(normNodes.get(weight));
  }

  /** The parameters that the graph has. */
  List<Weight> weights() {
    Set<String> all = new LinkedHashSet<>(graph.constants().keySet());
    uses.forEach(use -> all.addAll(use.names()));
    ParameterNames rules = new ParameterNames(all);
    Map<String, Weight> found = new LinkedHashMap<>();
    for (Use use : uses) {
      known(rules, use.names())
          .ifPresent(
              name -> {
                (use.linear() ? linearNodes : normNodes).putIfAbsent(name, use.node());
                if (use.linear()) {
                  found.putIfAbsent(name, weight(name, use.operand(), use.transposed()));
                }
              });
    }
    // A constant's own name is right unless it is a matrix, which may be stored transposed.
    graph
        .constants()
        .forEach(
            (own, tensor) ->
                known(rules, List.of(own))
                    .ifPresent(
                        name ->
                            found.putIfAbsent(
                                name,
                                weight(
                                    name,
                                    new OnnxGraph.Operand(tensor, List.of(own), false),
                                    false))));
    for (Use use : uses) {
      if (!use.linear()) {
        known(rules, use.names())
            .ifPresent(
                name -> found.putIfAbsent(name, weight(name, use.operand(), use.transposed())));
      }
    }
    checkComplete(found.keySet());
    return List.copyOf(found.values());
  }

  private static Optional<String> known(ParameterNames rules, List<String> names) {
    return names.stream().map(rules::canonical).filter(ParameterNames::isKnown).findFirst();
  }

  private Weight weight(String name, OnnxGraph.Operand operand, boolean transposed) {
    OnnxTensor tensor = operand.tensor();
    List<Long> shape = new ArrayList<>(tensor.dims());
    if (transposed) {
      Collections.reverse(shape);
    }
    String storedAs = operand.names().get(0);
    return new Weight(
        name,
        storedAs,
        tensor.typeName(),
        tensor.storedType(),
        shape,
        transposed,
        () -> tensor.segment(files, graph.file(), storedAs));
  }

  private void addUses(OnnxNode node) {
    if (!node.standard()) {
      return;
    }
    switch (node.operation()) {
      case "MatMul" -> addLinear(node, false);
      case "Gemm" -> addGemm(node);
      case "Add" -> {
        addVector(node, 0, "bias");
        addVector(node, 1, "bias");
      }
      case "Mul" -> {
        addVector(node, 0, "weight");
        addVector(node, 1, "weight");
      }
      case "LayerNormalization" -> {
        addVector(node, 1, "weight");
        addVector(node, 2, "bias");
      }
      case "Gather" ->
          graph
              .operand(node.input(0))
              .filter(operand -> operand.tensor().dims().size() == 2)
              .ifPresent(operand -> add(node, "weight", operand, operand.transposed(), false));
      default -> {}
    }
  }

  private void addGemm(OnnxNode node) {
    // Weights of such products are not what the model has, or not on that side.
    if (node.integer("transA", 0) == 0
        && node.number("alpha", 1) == 1
        && node.number("beta", 1) == 1) {
      addLinear(node, node.integer("transB", 0) != 0);
      addVector(node, 2, "bias");
    }
  }

  /** A product with a matrix, stored as [inputs, outputs] unless the node transposes it. */
  private void addLinear(OnnxNode node, boolean nodeTransposes) {
    graph
        .operand(node.input(1))
        .filter(operand -> operand.tensor().dims().size() == 2)
        .ifPresent(
            operand -> add(node, "weight", operand, nodeTransposes == operand.transposed(), true));
  }

  private void addVector(OnnxNode node, int input, String kind) {
    graph
        .operand(node.input(input))
        .filter(operand -> operand.tensor().dims().size() == 1)
        // What a layer norm adds to the variance may be a vector of one element.
        .filter(
            operand ->
                !operand.tensor().dims().equals(List.of(1L))
                    || !node.module().endsWith("LayerNorm"))
        .ifPresent(operand -> add(node, kind, operand, false, false));
  }

  private void add(
      OnnxNode node, String kind, OnnxGraph.Operand operand, boolean transposed, boolean linear) {
    List<String> names = new ArrayList<>();
    if (!node.module().isEmpty()) {
      names.add(node.module() + "." + kind);
    }
    operand.names().stream().filter(name -> name.endsWith("." + kind)).forEach(names::add);
    if (linear) {
      biasOf(node).ifPresent(bias -> names.add(bias + "weight"));
    }
    uses.add(new Use(node, names, operand, transposed, linear));
  }

  /** The name of the bias that is added to a product, without its last part. */
  private Optional<String> biasOf(OnnxNode linear) {
    List<String> biases = new ArrayList<>(List.of(linear.input(2)));
    linear.outputs().stream()
        .flatMap(output -> graph.consumers(output).stream())
        .filter(node -> node.is("Add"))
        .forEach(node -> biases.addAll(node.inputs()));
    return biases.stream()
        .flatMap(value -> graph.operand(value).stream())
        .map(operand -> operand.names().get(0))
        .filter(name -> name.endsWith(".bias"))
        .map(name -> name.substring(0, name.length() - "bias".length()))
        .findFirst();
  }

  /** Throws unless the encoder is complete, with the most likely reason. */
  private void checkComplete(Collection<String> found) {
    List<String> missing = new ArrayList<>();
    for (String name :
        List.of(
            ParameterNames.WORD_EMBEDDINGS,
            ParameterNames.POSITION_EMBEDDINGS,
            ParameterNames.TOKEN_TYPE_EMBEDDINGS)) {
      addIfMissing(name, found, missing);
    }
    addModuleIfMissing(ParameterNames.EMBEDDINGS_NORM, found, missing);
    for (int layer = 0; layer < layers(found); layer++) {
      for (String module : ParameterNames.layerModules(layer)) {
        addModuleIfMissing(module, found, missing);
      }
    }
    if (missing.isEmpty()) {
      return;
    }
    refuse(QUANTISED, "its weights are quantised; export it in float32, float16 or bfloat16");
    refuse(FUSED, "an optimizer has fused its nodes; use the graph that was exported");
    throw BertologyException.invalid(
        "%s is not an export of BERT whose weights can be told apart: nothing is known to be %s",
        graph.file().path(), Messages.few(missing));
  }

  /** Number of layers of which there is something, at least one. */
  static int layers(Collection<String> names) {
    int layers = 1;
    while (hasLayer(names, layers)) {
      layers++;
    }
    return layers;
  }

  private static boolean hasLayer(Collection<String> names, int layer) {
    return ParameterNames.layerModules(layer).stream()
        .anyMatch(module -> names.contains(module + ".weight"));
  }

  private static void addModuleIfMissing(
      String module, Collection<String> found, List<String> missing) {
    addIfMissing(module + ".weight", found, missing);
    addIfMissing(module + ".bias", found, missing);
  }

  private static void addIfMissing(String name, Collection<String> found, List<String> missing) {
    if (!found.contains(name)) {
      missing.add(name);
    }
  }

  private void refuse(Set<String> operations, String reason) {
    for (OnnxNode node : graph.nodes()) {
      if (operations.contains(node.operation())) {
        throw new BertologyException(
            BertologyException.Kind.UNSUPPORTED,
            String.format(
                "%s has nodes of %s: %s",
                graph.file().path(), Messages.quote(node.operation()), reason));
      }
    }
  }
}
