package org.bertology4j.checkpoint;

import com.google.gson.JsonObject;
import java.math.BigDecimal;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.IdentityHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.bertology4j.BertologyException;

/** Derives a model's configuration from its ONNX graph, where there is no config.json. */
final class OnnxConfig {
  private static final String FIRST_LAYER = "encoder.layer.0.";

  // Nodes that are looked at between a product and the next thing of interest.
  private static final int MOST_NODES = 64;
  private static final int MOST_STEPS_BACK = 6;

  private final OnnxGraph graph;
  private final OnnxWeights names;
  private final WeightTable weights;

  OnnxConfig(OnnxGraph graph, OnnxWeights names, WeightTable weights) {
    this.graph = graph;
    this.names = names;
    this.weights = weights;
  }

  /** The configuration, without {@code architectures} and labels. */
  JsonObject derive() {
    List<Long> words = matrix(ParameterNames.WORD_EMBEDDINGS, "vocab_size");
    long hidden = words.get(1);
    JsonObject json = new JsonObject();
    json.addProperty("model_type", "bert");
    json.addProperty("vocab_size", words.get(0));
    json.addProperty("hidden_size", hidden);
    json.addProperty("num_hidden_layers", OnnxWeights.layers(weights.tensors().keySet()));
    json.addProperty("num_attention_heads", heads(hidden));
    json.addProperty(
        "intermediate_size",
        matrix(FIRST_LAYER + "intermediate.dense.weight", "intermediate_size").get(0));
    json.addProperty(
        "max_position_embeddings",
        matrix(ParameterNames.POSITION_EMBEDDINGS, "max_position_embeddings").get(0));
    json.addProperty(
        "type_vocab_size", matrix(ParameterNames.TOKEN_TYPE_EMBEDDINGS, "type_vocab_size").get(0));
    json.addProperty("hidden_act", activation());
    json.addProperty("layer_norm_eps", eps());
    json.addProperty("tie_word_embeddings", TiedEmbeddings.areTied(weights));
    return json;
  }

  private List<Long> matrix(String name, String entry) {
    return weights
        .shape(name, 2)
        .filter(shape -> shape.stream().allMatch(size -> size > 0 && size <= Integer.MAX_VALUE))
        .orElseThrow(() -> unknown(entry, name + " is no matrix of a sensible size"));
  }

  private BertologyException unknown(String entry, String reason) {
    return BertologyException.invalid(
        "%s: %s cannot be told from the graph: %s; put the model's %s beside the file",
        graph.file().path(), entry, reason, ConfigFile.NAME);
  }

  /** The query is reshaped to [.., heads, head_dim]; the width of a head decides. */
  private long heads(long hidden) {
    String entry = "num_attention_heads";
    String query = FIRST_LAYER + "attention.self.query.weight";
    long outputs = matrix(query, entry).get(0);
    OnnxNode linear =
        names.linearNode(query).orElseThrow(() -> unknown(entry, "no node multiplies by " + query));
    OnnxNode reshape =
        after(linear, Set.of("Reshape")).stream()
            .filter(node -> node.is("Reshape"))
            .findFirst()
            .orElseThrow(() -> unknown(entry, "the query is not reshaped"));
    List<Optional<Long>> last = lastSizes(reshape.input(1));
    long headDim =
        last.get(1)
            .filter(size -> size > 0 && hidden % size == 0)
            .orElseThrow(
                () -> unknown(entry, "the width of a head is no constant that divides " + hidden));
    // Minus one stands for whatever is left.
    long heads = last.get(0).filter(size -> size > 0).orElse(outputs / headDim);
    if (heads * headDim != hidden || outputs != hidden) {
      throw unknown(
          entry,
          String.format(
              "the query has %d outputs in %d heads of %d, and the hidden size is %d",
              outputs, heads, headDim, hidden));
    }
    return heads;
  }

  /** The last two sizes of a constant or concatenated shape, where they are constant. */
  private List<Optional<Long>> lastSizes(String shape) {
    Optional<OnnxNode> concat = graph.producer(shape).filter(node -> node.is("Concat"));
    List<String> parts = concat.map(OnnxNode::inputs).orElse(List.of(shape));
    Optional<Long> headDim = Optional.empty();
    Optional<Long> heads = Optional.empty();
    if (!parts.isEmpty()) {
      List<Long> tail = graph.integers(parts.get(parts.size() - 1)).orElse(List.of());
      headDim = fromEnd(tail, 1);
      heads = fromEnd(tail, 2);
      if (tail.size() == 1 && parts.size() > 1) {
        heads = graph.integers(parts.get(parts.size() - 2)).flatMap(sizes -> fromEnd(sizes, 1));
      }
    }
    return List.of(heads, headDim);
  }

  private static Optional<Long> fromEnd(List<Long> sizes, int place) {
    return sizes.size() < place ? Optional.empty() : Optional.of(sizes.get(sizes.size() - place));
  }

  /** The operation between the two products of the feed-forward block. */
  private String activation() {
    String entry = "hidden_act";
    String intermediate = FIRST_LAYER + "intermediate.dense.weight";
    OnnxNode linear =
        names
            .linearNode(intermediate)
            .orElseThrow(() -> unknown(entry, "no node multiplies by " + intermediate));
    Set<String> found = new LinkedHashSet<>();
    for (OnnxNode node : after(linear, Set.of("MatMul", "Gemm"))) {
      switch (node.operation()) {
        case "Erf", "BiasGelu" -> found.add("gelu");
        case "Tanh", "FastGelu" -> found.add("gelu_new");
        case "Relu" -> found.add("relu");
        case "Gelu" ->
            found.add(
                node.attribute("approximate")
                    .map(OnnxNode.Attribute::text)
                    .filter("tanh"::equals)
                    .map(text -> "gelu_new")
                    .orElse("gelu"));
        default -> {}
      }
    }
    if (found.size() != 1) {
      throw unknown(
          entry, "the nodes after " + intermediate + " are those of " + Messages.few(found));
    }
    return found.iterator().next();
  }

  /** The nodes that a node's result reaches, up to and including those of some operations. */
  private List<OnnxNode> after(OnnxNode start, Set<String> last) {
    Set<OnnxNode> seen = Collections.newSetFromMap(new IdentityHashMap<>());
    Deque<OnnxNode> next = new ArrayDeque<>(List.of(start));
    List<OnnxNode> reached = new ArrayList<>();
    while (!next.isEmpty() && reached.size() < MOST_NODES) {
      OnnxNode node = next.remove();
      if (node != start) {
        reached.add(node);
        if (last.contains(node.operation())) {
          continue;
        }
      }
      for (String output : node.outputs()) {
        graph.consumers(output).stream().filter(seen::add).forEach(next::add);
      }
    }
    return reached;
  }

  /** What is added to the variance of the first layer norm. */
  private BigDecimal eps() {
    String entry = "layer_norm_eps";
    OnnxNode node =
        names
            .normNode(ParameterNames.EMBEDDINGS_NORM + ".weight")
            .orElseThrow(() -> unknown(entry, "no node scales by the embeddings' norm"));
    Optional<Double> eps =
        node.is("LayerNormalization")
            ? Optional.of((double) node.number("epsilon", 1e-5f))
            : addedBeforeRoot(node);
    return eps.filter(value -> value > 0 && value < 1)
        .map(value -> new BigDecimal(Float.toString(value.floatValue())))
        .filter(value -> value.signum() > 0)
        .orElseThrow(() -> unknown(entry, "nothing is added to the variance"));
  }

  /** Goes back from the scaling to Sqrt(Add(variance, eps)). */
  private Optional<Double> addedBeforeRoot(OnnxNode scaling) {
    Set<OnnxNode> level = Set.of(scaling);
    for (int step = 0; step < MOST_STEPS_BACK; step++) {
      Set<OnnxNode> before = new LinkedHashSet<>();
      for (OnnxNode node : level) {
        if (node.is("Sqrt")) {
          return graph
              .producer(node.input(0))
              .filter(add -> add.is("Add"))
              .flatMap(
                  add ->
                      add.inputs().stream()
                          .flatMap(input -> graph.scalar(input).stream())
                          .findFirst());
        }
        node.inputs().forEach(input -> graph.producer(input).ifPresent(before::add));
      }
      level = before;
    }
    return Optional.empty();
  }
}
