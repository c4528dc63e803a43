package org.bertology4j.cli;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.util.Arrays;
import java.util.Optional;
import org.bertology4j.ModelConfig;

/** Shapes of well-known models, for measurements on random weights. */
public enum ModelShape {
  /** BERT-base, uncased, with a classifier. */
  BERT_BASE("bert-base") {
    @Override
    public ModelConfig config() {
      return bert("BERT-base", 12, 12, 768);
    }
  },
  /** The smallest BERT of Turc et al. 2019, which tells little of a device but is soon done. */
  BERT_TINY("bert-tiny") {
    @Override
    public ModelConfig config() {
      return bert("BERT-tiny", 2, 2, 128);
    }
  },
  /** The smallest GPT-2. */
  GPT2("gpt2") {
    @Override
    public ModelConfig config() {
      JsonObject json = new JsonObject();
      json.addProperty("model_type", "gpt2");
      json.addProperty("n_layer", 12);
      json.addProperty("n_head", 12);
      json.addProperty("n_embd", 768);
      json.addProperty("n_positions", 1024);
      json.addProperty("vocab_size", 50257);
      return ModelConfig.fromJson(json, "GPT-2");
    }
  };

  private final String name;

  ModelShape(String name) {
    this.name = name;
  }

  /** The shape. */
  public abstract ModelConfig config();

  private static ModelConfig bert(String name, int layers, int heads, int width) {
    JsonArray architectures = new JsonArray();
    architectures.add("BertForSequenceClassification");
    JsonObject json = new JsonObject();
    json.add("architectures", architectures);
    json.addProperty("model_type", "bert");
    json.addProperty("num_hidden_layers", layers);
    json.addProperty("num_attention_heads", heads);
    json.addProperty("hidden_size", width);
    json.addProperty("intermediate_size", 4 * width);
    json.addProperty("vocab_size", 30522);
    json.addProperty("max_position_embeddings", 512);
    json.addProperty("type_vocab_size", 2);
    return ModelConfig.fromJson(json, name);
  }

  /** The shape of this name, if there is one. */
  public static Optional<ModelShape> named(String name) {
    return Arrays.stream(values()).filter(shape -> shape.name.equals(name)).findFirst();
  }

  @Override
  public String toString() {
    return name;
  }
}
