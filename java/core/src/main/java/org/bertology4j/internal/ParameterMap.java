package org.bertology4j.internal;

import java.util.ArrayList;
import java.util.List;
import org.bertology4j.ModelConfig;

/**
 * How the core's parameters are named in Hugging Face's BERT, and how heads divide them. Reading
 * and writing checkpoints both go by it.
 */
public final class ParameterMap {
  private ParameterMap() {}

  /** What becomes of a parameter when heads go. */
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
    MASKED_LM
  }

  /**
   * One parameter.
   *
   * @param core its name in bertology.h
   * @param huggingFace its name in checkpoints, without the model's prefix
   * @param layer its layer; -1 outside the layers
   */
  public record Entry(String core, String huggingFace, Part part, ByHead byHead, int layer) {
    /** Its shape in a model with all heads. */
    public List<Long> shape(ModelConfig config) {
      long hidden = config.hiddenSize();
      long intermediate = config.intermediateSize();
      long vocabulary = config.vocabSize();
      long labels = config.labels().size();
      boolean bias = core.endsWith(".bias");
      return switch (core.substring(core.indexOf('.', layer < 0 ? 0 : "layers.".length()) + 1)) {
        case "word" -> List.of(vocabulary, hidden);
        case "position" -> List.of((long) config.maxPositionEmbeddings(), hidden);
        case "token_type" -> List.of((long) config.typeVocabSize(), hidden);
        case "intermediate.weight" -> List.of(intermediate, hidden);
        case "intermediate.bias" -> List.of(intermediate);
        case "output.weight" -> List.of(hidden, intermediate);
        case "decoder.weight" -> List.of(vocabulary, hidden);
        default -> {
          if (part == Part.CLASSIFIER) {
            yield bias ? List.of(labels) : List.of(labels, hidden);
          }
          if (core.equals("masked_lm.bias")) {
            yield List.of(vocabulary);
          }
          yield bias || core.contains("norm") ? List.of(hidden) : List.of(hidden, hidden);
        }
      };
    }
  }

  private static final String[][] LAYER = {
    {"query", "attention.self.query"},
    {"key", "attention.self.key"},
    {"value", "attention.self.value"},
    {"attention_output", "attention.output.dense"},
    {"attention_norm", "attention.output.LayerNorm"},
    {"intermediate", "intermediate.dense"},
    {"output", "output.dense"},
    {"output_norm", "output.LayerNorm"}
  };

  /**
   * The seven parameters of a layer that heads divide, in the order of
   * bertology_model_restore_heads.
   */
  public static List<Entry> dividedByHeads(int layer) {
    List<Entry> entries = new ArrayList<>();
    for (String field : new String[] {"weight", "bias"}) {
      for (int i = 0; i < 3; i++) {
        entries.add(layerEntry(layer, LAYER[i], field));
      }
    }
    entries.add(layerEntry(layer, LAYER[3], "weight"));
    return entries;
  }

  private static Entry layerEntry(int layer, String[] names, String field) {
    boolean projection =
        names[0].equals("query") || names[0].equals("key") || names[0].equals("value");
    ByHead byHead = ByHead.WHOLE;
    if (projection) {
      byHead = ByHead.ROWS;
    } else if (names[0].equals("attention_output") && field.equals("weight")) {
      byHead = ByHead.COLUMNS;
    }
    return new Entry(
        "layers." + layer + "." + names[0] + "." + field,
        "encoder.layer." + layer + "." + names[1] + "." + field,
        Part.ENCODER,
        byHead,
        layer);
  }

  /** All parameters of a model of this shape. */
  public static List<Entry> of(ModelConfig config) {
    List<Entry> entries = new ArrayList<>();
    add(entries, Part.ENCODER, "embeddings.word", "embeddings.word_embeddings.weight");
    add(entries, Part.ENCODER, "embeddings.position", "embeddings.position_embeddings.weight");
    add(entries, Part.ENCODER, "embeddings.token_type", "embeddings.token_type_embeddings.weight");
    addPair(entries, Part.ENCODER, "embeddings.norm", "embeddings.LayerNorm");
    for (int l = 0; l < config.numHiddenLayers(); l++) {
      for (String[] names : LAYER) {
        entries.add(layerEntry(l, names, "weight"));
        entries.add(layerEntry(l, names, "bias"));
      }
    }
    addPair(entries, Part.POOLER, "pooler", "pooler.dense");
    addPair(entries, Part.CLASSIFIER, "classifier", "classifier");
    String head = "cls.predictions.";
    addPair(entries, Part.MASKED_LM, "masked_lm.transform", head + "transform.dense");
    addPair(entries, Part.MASKED_LM, "masked_lm.norm", head + "transform.LayerNorm");
    add(entries, Part.MASKED_LM, "masked_lm.bias", head + "bias");
    if (!config.tiedEmbeddings()) {
      add(entries, Part.MASKED_LM, "masked_lm.decoder.weight", head + "decoder.weight");
    }
    return entries;
  }

  private static void add(List<Entry> entries, Part part, String core, String huggingFace) {
    entries.add(new Entry(core, huggingFace, part, ByHead.WHOLE, -1));
  }

  private static void addPair(List<Entry> entries, Part part, String core, String huggingFace) {
    add(entries, part, core + ".weight", huggingFace + ".weight");
    add(entries, part, core + ".bias", huggingFace + ".bias");
  }
}
