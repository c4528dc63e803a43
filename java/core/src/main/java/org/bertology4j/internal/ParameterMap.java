package org.bertology4j.internal;

import java.util.ArrayList;
import java.util.List;
import org.bertology4j.ModelConfig;

/**
 * How the core's parameters are named and laid out in Hugging Face's checkpoints, and how heads
 * divide them. Reading and writing checkpoints both go by it.
 *
 * <p>GPT-2 and OpenAI GPT store matrices as [inputs, outputs], and query, key and value as one
 * tensor, behind one another in its last dimension.
 */
public final class ParameterMap {
  private ParameterMap() {}

  /** What becomes of a tensor when heads go. */
  public enum ByHead {
    /** Nothing. */
    WHOLE,
    /** Its first dimension is heads times head width. */
    ROWS,
    /** Its second dimension is. */
    COLUMNS
  }

  /** What needs a parameter. */
  public enum Part {
    ENCODER,
    POOLER,
    CLASSIFIER,
    /** What a GPT's classifier has only if it was set by hand. */
    CLASSIFIER_BIAS,
    LANGUAGE_MODEL
  }

  /**
   * One parameter.
   *
   * @param core its name in bertology.h
   * @param huggingFace its name in checkpoints, without the model's prefix
   * @param byHead how heads divide the tensor of the checkpoint
   * @param layer its layer; -1 outside the layers
   * @param inputsFirst whether a matrix is [inputs, outputs] in the checkpoint
   * @param fusedPart which third of the tensor's last dimension it is: query, key or value; -1 for
   *     all of it
   */
  public record Entry(
      String core,
      String huggingFace,
      Part part,
      ByHead byHead,
      int layer,
      boolean inputsFirst,
      int fusedPart) {
    /** Whether it shares its tensor with two others. */
    public boolean isFused() {
      return fusedPart >= 0;
    }

    /** The shape of the tensor that has it in a model with all heads. */
    public List<Long> shape(ModelConfig config) {
      long hidden = config.hiddenSize();
      long intermediate = config.intermediateSize();
      long vocabulary = config.vocabSize();
      long labels = config.labels().size();
      boolean bias = core.endsWith(".bias");
      String name = core.substring(core.indexOf('.', layer < 0 ? 0 : "layers.".length()) + 1);
      return switch (name) {
        case "word" -> List.of(vocabulary, hidden);
        case "position" -> List.of((long) config.maxPositionEmbeddings(), hidden);
        case "token_type" -> List.of((long) config.typeVocabSize(), hidden);
        case "intermediate.weight" -> matrix(intermediate, hidden);
        case "intermediate.bias" -> List.of(intermediate);
        case "output.weight" -> matrix(hidden, intermediate);
        default -> {
          if (isFused()) {
            yield bias ? List.of(3 * hidden) : List.of(hidden, 3 * hidden);
          }
          if (core.startsWith("classifier.")) {
            yield bias ? List.of(labels) : List.of(labels, hidden);
          }
          if (core.equals("masked_lm.bias")) {
            yield List.of(vocabulary);
          }
          if (core.equals("lm_head.weight") || core.equals("masked_lm.decoder.weight")) {
            yield List.of(vocabulary, hidden);
          }
          yield bias || core.contains("norm") ? List.of(hidden) : matrix(hidden, hidden);
        }
      };
    }

    private List<Long> matrix(long outputs, long inputs) {
      return inputsFirst ? List.of(inputs, outputs) : List.of(outputs, inputs);
    }
  }

  /** Modules of a layer: the core's names and Hugging Face's. */
  private static final String[][] BERT_LAYER = {
    {"query", "attention.self.query"},
    {"key", "attention.self.key"},
    {"value", "attention.self.value"},
    {"attention_output", "attention.output.dense"},
    {"attention_norm", "attention.output.LayerNorm"},
    {"intermediate", "intermediate.dense"},
    {"output", "output.dense"},
    {"output_norm", "output.LayerNorm"}
  };

  private static final String[][] GPT_LAYER = {
    {"query", "attn.c_attn"},
    {"key", "attn.c_attn"},
    {"value", "attn.c_attn"},
    {"attention_output", "attn.c_proj"},
    {"attention_norm", "ln_1"},
    {"intermediate", "mlp.c_fc"},
    {"output", "mlp.c_proj"},
    {"output_norm", "ln_2"}
  };

  private static final int PROJECTIONS = 3;
  private static final int ATTENTION_OUTPUT = 3;

  private static boolean isGpt(ModelConfig config) {
    return config.architecture().isCausal();
  }

  /**
   * The seven parameters of a layer that heads divide, in the order of
   * bertology_model_restore_heads.
   */
  public static List<Entry> dividedByHeads(ModelConfig config, int layer) {
    List<Entry> entries = new ArrayList<>();
    for (String field : new String[] {"weight", "bias"}) {
      for (int i = 0; i < PROJECTIONS; i++) {
        entries.add(layerEntry(config, layer, i, field));
      }
    }
    entries.add(layerEntry(config, layer, ATTENTION_OUTPUT, "weight"));
    return entries;
  }

  private static Entry layerEntry(ModelConfig config, int layer, int module, String field) {
    boolean gpt = isGpt(config);
    String[] names = (gpt ? GPT_LAYER : BERT_LAYER)[module];
    boolean weight = field.equals("weight");
    ByHead byHead = ByHead.WHOLE;
    if (module < PROJECTIONS) {
      byHead = gpt && weight ? ByHead.COLUMNS : ByHead.ROWS;
    } else if (module == ATTENTION_OUTPUT && weight) {
      byHead = gpt ? ByHead.ROWS : ByHead.COLUMNS;
    }
    return new Entry(
        "layers." + layer + "." + names[0] + "." + field,
        (gpt ? "h." : "encoder.layer.") + layer + "." + names[1] + "." + field,
        Part.ENCODER,
        byHead,
        layer,
        gpt && !names[0].endsWith("norm"),
        gpt && module < PROJECTIONS ? module : -1);
  }

  /** All parameters of a model of this shape. */
  public static List<Entry> of(ModelConfig config) {
    List<Entry> entries = new ArrayList<>();
    switch (config.architecture()) {
      case BERT -> {
        String embeddings = "embeddings.";
        add(entries, Part.ENCODER, "embeddings.word", embeddings + "word_embeddings.weight");
        add(
            entries,
            Part.ENCODER,
            "embeddings.position",
            embeddings + "position_embeddings.weight");
        add(
            entries,
            Part.ENCODER,
            "embeddings.token_type",
            embeddings + "token_type_embeddings.weight");
        addPair(entries, Part.ENCODER, "embeddings.norm", embeddings + "LayerNorm");
      }
      case GPT2 -> {
        add(entries, Part.ENCODER, "embeddings.word", "wte.weight");
        add(entries, Part.ENCODER, "embeddings.position", "wpe.weight");
      }
      case OPENAI_GPT -> {
        add(entries, Part.ENCODER, "embeddings.word", "tokens_embed.weight");
        add(entries, Part.ENCODER, "embeddings.position", "positions_embed.weight");
      }
      default -> throw new IllegalStateException(config.architecture().toString());
    }
    for (int l = 0; l < config.numHiddenLayers(); l++) {
      for (int module = 0; module < BERT_LAYER.length; module++) {
        entries.add(layerEntry(config, l, module, "weight"));
        entries.add(layerEntry(config, l, module, "bias"));
      }
    }
    if (config.architecture() == ModelConfig.Architecture.GPT2) {
      addPair(entries, Part.ENCODER, "final_norm", "ln_f");
    }
    if (isGpt(config)) {
      addGptHeads(config, entries);
    } else {
      addBertHeads(config, entries);
    }
    return entries;
  }

  private static void addBertHeads(ModelConfig config, List<Entry> entries) {
    addPair(entries, Part.POOLER, "pooler", "pooler.dense");
    addPair(entries, Part.CLASSIFIER, "classifier", "classifier");
    String head = "cls.predictions.";
    addPair(entries, Part.LANGUAGE_MODEL, "masked_lm.transform", head + "transform.dense");
    addPair(entries, Part.LANGUAGE_MODEL, "masked_lm.norm", head + "transform.LayerNorm");
    add(entries, Part.LANGUAGE_MODEL, "masked_lm.bias", head + "bias");
    if (!config.tiedEmbeddings()) {
      add(entries, Part.LANGUAGE_MODEL, "masked_lm.decoder.weight", head + "decoder.weight");
    }
  }

  private static void addGptHeads(ModelConfig config, List<Entry> entries) {
    add(entries, Part.CLASSIFIER, "classifier.weight", "score.weight");
    add(entries, Part.CLASSIFIER_BIAS, "classifier.bias", "score.bias");
    if (!config.tiedEmbeddings()) {
      add(entries, Part.LANGUAGE_MODEL, "lm_head.weight", "lm_head.weight");
    }
  }

  /** Hugging Face's name of one of the core's parameters. */
  public static String nameOf(ModelConfig config, String core) {
    return of(config).stream()
        .filter(entry -> entry.core().equals(core))
        .map(Entry::huggingFace)
        .findFirst()
        .orElseThrow(() -> new IllegalArgumentException(core));
  }

  private static void add(List<Entry> entries, Part part, String core, String huggingFace) {
    entries.add(new Entry(core, huggingFace, part, ByHead.WHOLE, -1, false, -1));
  }

  private static void addPair(List<Entry> entries, Part part, String core, String huggingFace) {
    add(entries, part, core + ".weight", huggingFace + ".weight");
    add(entries, part, core + ".bias", huggingFace + ".bias");
  }
}
