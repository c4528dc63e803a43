package org.bertology4j;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * The shape of a model, under the names of Hugging Face's config.json. Immutable; entries that this
 * class does not know are kept, so that a saved configuration has them too.
 */
public final class ModelConfig {
  /** Architectures that can be loaded, by their {@code model_type}. */
  public enum Architecture {
    /** Every token sees all; norms behind the blocks. */
    BERT("bert", "Bert", "hidden_act", "layer_norm_eps"),
    /** Causal; norms before the blocks and one behind the last. */
    GPT2("gpt2", "GPT2", "activation_function", "layer_norm_epsilon"),
    /** Causal; norms behind the blocks. */
    OPENAI_GPT("openai-gpt", "OpenAIGPT", "afn", "layer_norm_epsilon");

    private final String modelType;
    private final String className;
    private final String activation;
    private final String epsilon;

    Architecture(String modelType, String className, String activation, String epsilon) {
      this.modelType = modelType;
      this.className = className;
      this.activation = activation;
      this.epsilon = epsilon;
    }

    /** The {@code model_type} of config.json. */
    public String modelType() {
      return modelType;
    }

    /** Whether a token sees only itself and those before it. */
    public boolean isCausal() {
      return this != BERT;
    }

    /** What stands before the transformer's names in a model that has more than it. */
    String prefix() {
      return this == BERT ? "bert." : "transformer.";
    }

    /** The name of Hugging Face's class for a task, such as BertForSequenceClassification. */
    String className(Task task) {
      return className
          + switch (task) {
            case ENCODER -> "Model";
            case SEQUENCE_CLASSIFICATION -> "ForSequenceClassification";
            case MASKED_LM -> "ForMaskedLM";
            case CAUSAL_LM -> "LMHeadModel";
          };
    }

    /** The entry of config.json with what layer normalisation adds to the variance. */
    String epsilon() {
      return epsilon;
    }

    private Pooling usualPooling() {
      return this == BERT ? Pooling.POOLER : Pooling.LAST;
    }
  }

  /** Activations of the feed-forward blocks. */
  public enum HiddenAct {
    GELU,
    GELU_NEW,
    RELU,
    SILU,
    TANH
  }

  /** How the last hidden states of a sequence become the one vector that the classifier sees. */
  public enum Pooling {
    /** tanh(pooler(first token)), as Hugging Face's BertForSequenceClassification. */
    POOLER,
    /** The first token. */
    CLS,
    /** The first token, divided by its Euclidean length. */
    CLS_NORMALIZED,
    /** The mean of all tokens. */
    MEAN,
    /** The mean of all tokens, divided by its Euclidean length. */
    MEAN_NORMALIZED,
    /** The last token, as Hugging Face's GPT2ForSequenceClassification. */
    LAST
  }

  /** What the model was made for: the last part of the name in {@code architectures}. */
  public enum Task {
    /** States only. */
    ENCODER,
    SEQUENCE_CLASSIFICATION,
    MASKED_LM,
    /** The next token; of a model with two heads, its language model. */
    CAUSAL_LM
  }

  private static final String POOLING = "bertology_pooling";
  private static final int MOST_LABELS = 1 << 20;
  private static final int MOST_LAYERS = 4096;
  private static final int MOST_HEADS = 4096;

  private final JsonObject json;
  private final Architecture architecture;
  private final int numHiddenLayers;
  private final int numAttentionHeads;
  private final int hiddenSize;
  private final int intermediateSize;
  private final int vocabSize;
  private final int maxPositionEmbeddings;
  private final int typeVocabSize;
  private final boolean scaleAttnWeights;
  private final boolean scaleAttnByInverseLayerIdx;
  private final HiddenAct hiddenAct;
  private final float layerNormEps;
  private final Task task;
  private final List<String> labels;
  private final boolean regression;
  private final Pooling pooling;
  private final Heads prunedHeads;
  private final boolean tiedEmbeddings;

  private ModelConfig(JsonObject source, String where) {
    json = source.deepCopy();
    architecture = readArchitecture(where);
    boolean bert = architecture == Architecture.BERT;
    // A GPT's own names, and those that Hugging Face takes for them.
    numHiddenLayers = bert ? size(where, "num_hidden_layers") : gptSize(where, "n_layer");
    numAttentionHeads = bert ? size(where, "num_attention_heads") : gptSize(where, "n_head");
    hiddenSize = bert ? size(where, "hidden_size") : gptSize(where, "n_embd");
    vocabSize = size(where, "vocab_size");
    maxPositionEmbeddings =
        bert
            ? size(where, "max_position_embeddings")
            : size(where, "n_positions", "n_ctx", "max_position_embeddings");
    typeVocabSize = bert ? size(where, "type_vocab_size") : 0;
    boolean inner = architecture == Architecture.GPT2 && has("n_inner");
    intermediateSize =
        bert ? size(where, "intermediate_size") : inner ? size(where, "n_inner") : 4 * hiddenSize;
    BertologyException.check(
        hiddenSize % numAttentionHeads == 0,
        bert
            ? "%s: hidden_size %d is not a multiple of num_attention_heads %d"
            : "%s: n_embd %d is not a multiple of n_head %d",
        where,
        hiddenSize,
        numAttentionHeads);
    BertologyException.check(
        numHiddenLayers <= MOST_LAYERS && numAttentionHeads <= MOST_HEADS,
        "%s: %d layers of %d heads, expected at most %d of %d",
        where,
        numHiddenLayers,
        numAttentionHeads,
        MOST_LAYERS,
        MOST_HEADS);
    hiddenAct = readHiddenAct(where);
    layerNormEps = number(architecture.epsilon, where, bert ? 1e-12 : 1e-5).floatValue();
    scaleAttnWeights = flag("scale_attn_weights", where, true);
    scaleAttnByInverseLayerIdx = flag("scale_attn_by_inverse_layer_idx", where, false);
    String positions = string("position_embedding_type", "absolute");
    checkSupported("position_embedding_type", positions, where, "absolute");
    // A BERT that decodes is causal, and a decoder may look at another model's states.
    String[] decoding =
        bert
            ? new String[] {"is_decoder", "add_cross_attention"}
            : new String[] {"add_cross_attention"};
    for (String entry : decoding) {
      checkSupported(entry, Boolean.toString(flag(entry, where, false)), where, "false");
    }
    task = readTask();
    labels = readLabels(where);
    String usual = labels.size() == 1 ? "regression" : "single_label_classification";
    String problem = string("problem_type", usual);
    checkSupported("problem_type", problem, where, "regression", "single_label_classification");
    regression = problem.equals("regression");
    pooling = readPooling(where);
    prunedHeads = readPrunedHeads(where);
    tiedEmbeddings = flag("tie_word_embeddings", where, true);
  }

  /**
   * Reads the object of a config.json (or of Google's bert_config.json, which has the same names).
   *
   * @param where what to call it in messages
   */
  public static ModelConfig fromJson(JsonObject json, String where) {
    try {
      return new ModelConfig(json, where);
    } catch (IllegalStateException
        | UnsupportedOperationException
        | NumberFormatException
        | ClassCastException e) {
      // What Gson throws for an entry of another type than asked for.
      throw new BertologyException(
          BertologyException.Kind.INVALID_ARGUMENT,
          where + ": an entry is not of the type that it should be: " + e.getMessage(),
          e);
    }
  }

  private Architecture readArchitecture(String where) {
    // Google's files have no model_type.
    String type = string("model_type", Architecture.BERT.modelType());
    for (Architecture known : Architecture.values()) {
      if (known.modelType().equals(type)) {
        return known;
      }
    }
    throw new BertologyException(
        BertologyException.Kind.UNSUPPORTED,
        where + ": model_type \"" + type + "\" is not supported; bert, gpt2 and openai-gpt are");
  }

  private HiddenAct readHiddenAct(String where) {
    String usual = architecture == Architecture.GPT2 ? "gelu_new" : "gelu";
    String name = string(architecture.activation, usual);
    return switch (name) {
      // What openai-gpt calls gelu is the approximation.
      case "gelu" -> architecture == Architecture.OPENAI_GPT ? HiddenAct.GELU_NEW : HiddenAct.GELU;
      case "gelu_new", "gelu_pytorch_tanh", "gelu_fast" -> HiddenAct.GELU_NEW;
      case "relu" -> HiddenAct.RELU;
      case "silu", "swish" -> HiddenAct.SILU;
      case "tanh" -> HiddenAct.TANH;
      default ->
          throw new BertologyException(
              BertologyException.Kind.UNSUPPORTED,
              String.format(
                  "%s: %s \"%s\" is not supported; gelu, gelu_new, relu, silu and tanh are",
                  where, architecture.activation, name));
    };
  }

  private Task readTask() {
    if (has("architectures")) {
      for (JsonElement name : json.getAsJsonArray("architectures")) {
        if (name.getAsString().endsWith("ForSequenceClassification")) {
          return Task.SEQUENCE_CLASSIFICATION;
        }
        if (name.getAsString().endsWith("ForMaskedLM")
            || name.getAsString().endsWith("ForPreTraining")) {
          return Task.MASKED_LM;
        }
        if (name.getAsString().endsWith("LMHeadModel")
            || name.getAsString().endsWith("DoubleHeadsModel")) {
          return Task.CAUSAL_LM;
        }
      }
    }
    return Task.ENCODER;
  }

  private List<String> readLabels(String where) {
    if (has("id2label")) {
      Map<Integer, String> byId = new TreeMap<>();
      for (Map.Entry<String, JsonElement> entry : json.getAsJsonObject("id2label").entrySet()) {
        byId.put(integer(entry.getKey(), "id2label", where), entry.getValue().getAsString());
      }
      List<String> names = new ArrayList<>(byId.values());
      BertologyException.check(
          byId.isEmpty() || (byId.containsKey(0) && byId.containsKey(names.size() - 1)),
          "%s: id2label has the ids %s, expected 0 to %d",
          where,
          byId.keySet(),
          names.size() - 1);
      return List.copyOf(names);
    }
    Number given = number("num_labels", where, 2);
    int count = given.intValue();
    BertologyException.check(
        given.doubleValue() == count && count >= 0 && count <= MOST_LABELS,
        "%s: num_labels is %s, expected a whole number from 0 to %d",
        where,
        given,
        MOST_LABELS);
    List<String> names = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      names.add("LABEL_" + i);
    }
    return List.copyOf(names);
  }

  private Pooling readPooling(String where) {
    String name = string(POOLING, architecture.usualPooling().name());
    for (Pooling known : Pooling.values()) {
      if (known.name().equalsIgnoreCase(name)) {
        BertologyException.check(
            known != Pooling.POOLER || architecture == Architecture.BERT,
            "%s: %s is \"%s\", which %s does not have",
            where,
            POOLING,
            name,
            architecture.modelType);
        return known;
      }
    }
    throw BertologyException.invalid("%s: %s is \"%s\", which is unknown", where, POOLING, name);
  }

  private Heads readPrunedHeads(String where) {
    Map<Integer, List<Integer>> heads = new TreeMap<>();
    if (has("pruned_heads")) {
      for (Map.Entry<String, JsonElement> entry : json.getAsJsonObject("pruned_heads").entrySet()) {
        List<Integer> ofLayer = new ArrayList<>();
        for (JsonElement head : entry.getValue().getAsJsonArray()) {
          ofLayer.add(integer(head.getAsString(), "pruned_heads", where));
        }
        heads.put(integer(entry.getKey(), "pruned_heads", where), ofLayer);
      }
    }
    try {
      Heads pruned = Heads.of(heads);
      pruned.checkWithin(numHiddenLayers, numAttentionHeads);
      return pruned;
    } catch (BertologyException e) {
      throw new BertologyException(e.kind(), where + ": pruned_heads: " + e.getMessage(), e);
    }
  }

  private static void checkSupported(String name, String value, String where, String... supported) {
    if (!List.of(supported).contains(value)) {
      throw new BertologyException(
          BertologyException.Kind.UNSUPPORTED,
          String.format(
              "%s: %s \"%s\" is not supported; expected %s",
              where, name, value, String.join(" or ", supported)));
    }
  }

  private static int integer(String text, String entry, String where) {
    try {
      return Integer.parseInt(text);
    } catch (NumberFormatException e) {
      throw BertologyException.invalid(
          "%s: %s has \"%s\", expected a whole number", where, entry, text);
    }
  }

  private boolean has(String name) {
    return json.has(name) && !json.get(name).isJsonNull();
  }

  private boolean flag(String name, String where, boolean otherwise) {
    if (!has(name)) {
      return otherwise;
    }
    BertologyException.check(
        json.get(name) instanceof JsonPrimitive primitive && primitive.isBoolean(),
        "%s: %s is %s, expected true or false",
        where,
        name,
        json.get(name));
    return json.get(name).getAsBoolean();
  }

  private int gptSize(String where, String name) {
    String usual =
        switch (name) {
          case "n_layer" -> "num_hidden_layers";
          case "n_head" -> "num_attention_heads";
          default -> "hidden_size";
        };
    return size(where, name, usual);
  }

  /** The first of these entries that is there. */
  private int size(String where, String... names) {
    String name = Arrays.stream(names).filter(this::has).findFirst().orElse(names[0]);
    BertologyException.check(has(name), "%s has no %s", where, name);
    Number value = number(name, where, null);
    BertologyException.check(
        value != null && value.doubleValue() == value.intValue() && value.intValue() > 0,
        "%s: %s is %s, expected a positive whole number",
        where,
        name,
        value);
    return value.intValue();
  }

  private Number number(String name, String where, Number otherwise) {
    if (!has(name)) {
      return otherwise;
    }
    JsonElement value = json.get(name);
    BertologyException.check(
        value instanceof JsonPrimitive primitive && primitive.isNumber(),
        "%s: %s is %s, expected a number",
        where,
        name,
        value);
    return value.getAsDouble();
  }

  private String string(String name, String otherwise) {
    return has(name) ? json.get(name).getAsJsonPrimitive().getAsString() : otherwise;
  }

  /** Which architecture it is. */
  public Architecture architecture() {
    return architecture;
  }

  /** Number of layers, L. */
  public int numHiddenLayers() {
    return numHiddenLayers;
  }

  /** Number of attention heads of each layer before pruning, H. */
  public int numAttentionHeads() {
    return numAttentionHeads;
  }

  /** Width of the hidden states, D. */
  public int hiddenSize() {
    return hiddenSize;
  }

  /** Width of a head, {@code hiddenSize / numAttentionHeads}. */
  public int headDim() {
    return hiddenSize / numAttentionHeads;
  }

  /** Width inside the feed-forward blocks. */
  public int intermediateSize() {
    return intermediateSize;
  }

  /** Number of token ids. */
  public int vocabSize() {
    return vocabSize;
  }

  /** Most tokens of a sequence. */
  public int maxPositionEmbeddings() {
    return maxPositionEmbeddings;
  }

  /** Number of token types (segments); 0 for a GPT, which has none. */
  public int typeVocabSize() {
    return typeVocabSize;
  }

  /** Whether GPT-2 divides attention scores by the square root of {@link #headDim}. */
  public boolean scaleAttnWeights() {
    return scaleAttnWeights;
  }

  /** Whether GPT-2 divides attention scores by the number of the layer + 1. */
  public boolean scaleAttnByInverseLayerIdx() {
    return scaleAttnByInverseLayerIdx;
  }

  /** Activation of the feed-forward blocks. */
  public HiddenAct hiddenAct() {
    return hiddenAct;
  }

  /** What layer normalisation adds to the variance. */
  public float layerNormEps() {
    return layerNormEps;
  }

  /** What the model was made for. */
  public Task task() {
    return task;
  }

  /** Names of the classifier's outputs. */
  public List<String> labels() {
    return labels;
  }

  /** Whether the classifier's only output is a number, not a class. */
  public boolean regression() {
    return regression;
  }

  /** How a sequence becomes the vector that the classifier sees. */
  public Pooling pooling() {
    return pooling;
  }

  /** Heads that the checkpoint does not have. */
  public Heads prunedHeads() {
    return prunedHeads;
  }

  /** Whether the language model's output matrix is the word embeddings. */
  public boolean tiedEmbeddings() {
    return tiedEmbeddings;
  }

  /** A copy of the JSON object, with every entry that it was read with. */
  public JsonObject toJson() {
    return json.deepCopy();
  }

  /** The same with {@code pruned_heads}. */
  public ModelConfig withPrunedHeads(Heads heads) {
    JsonObject changed = toJson();
    JsonObject byLayer = new JsonObject();
    for (int layer : heads.layers()) {
      JsonArray ofLayer = new JsonArray();
      heads.of(layer).forEach(ofLayer::add);
      byLayer.add(String.valueOf(layer), ofLayer);
    }
    changed.add("pruned_heads", byLayer);
    return new ModelConfig(changed, "config");
  }

  /** The same as a sequence classifier with these labels. */
  public ModelConfig withClassifier(List<String> names, Pooling kind) {
    JsonObject changed = toJson();
    JsonArray architectures = new JsonArray();
    architectures.add(architecture.className(Task.SEQUENCE_CLASSIFICATION));
    changed.add("architectures", architectures);
    JsonObject labelOf = new JsonObject();
    JsonObject idOf = new JsonObject();
    for (int i = 0; i < names.size(); i++) {
      labelOf.addProperty(String.valueOf(i), names.get(i));
      idOf.addProperty(names.get(i), i);
    }
    changed.add("id2label", labelOf);
    changed.add("label2id", idOf);
    changed.remove("num_labels");
    changed.remove("problem_type"); // that of the classifier that was there before
    if (kind == architecture.usualPooling()) {
      changed.remove(POOLING);
    } else {
      changed.addProperty(POOLING, kind.name().toLowerCase(java.util.Locale.ROOT));
    }
    return new ModelConfig(changed, "config");
  }

  @Override
  public String toString() {
    return String.format(
        "%s, %d layers of %d heads, hidden size %d, vocabulary %d, %s",
        architecture.modelType(), numHiddenLayers, numAttentionHeads, hiddenSize, vocabSize, task);
  }
}
