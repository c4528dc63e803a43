package org.bertology4j.benchmarks;

import com.google.gson.JsonObject;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.bertology4j.BertologyException;
import org.bertology4j.Model;
import org.bertology4j.ModelConfig;
import org.bertology4j.checkpoint.Checkpoint;
import org.bertology4j.cli.ModelShape;

/** The models that are measured. */
public enum Subject {
  /** Random weights in BERT-base's shape. */
  BERT_BASE("bert-base"),
  /** bge-small-en-v1.5. */
  BGE_SMALL("bge-small"),
  /** Random weights in the shape of the smallest GPT-2. */
  GPT2("gpt2"),
  /** Random weights in a shape that is only to see whether everything runs. */
  TINY("tiny");

  private final String name;

  Subject(String name) {
    this.name = name;
  }

  @Override
  public String toString() {
    return name;
  }

  /** The checkpoint, which the caller closes. */
  public Checkpoint open() {
    return switch (this) {
      case BERT_BASE -> Checkpoint.random(ModelShape.BERT_BASE.config(), 1);
      case GPT2 -> Checkpoint.random(ModelShape.GPT2.config(), 1);
      case BGE_SMALL -> Checkpoint.open(bgeSmallFolder());
      case TINY -> Checkpoint.random(tiny(), 1);
    };
  }

  private static ModelConfig tiny() {
    JsonObject json = ModelShape.BERT_BASE.config().toJson();
    json.addProperty("num_hidden_layers", 2);
    json.addProperty("num_attention_heads", 4);
    json.addProperty("hidden_size", 32);
    json.addProperty("intermediate_size", 64);
    json.addProperty("vocab_size", 100);
    return ModelConfig.fromJson(json, "tiny");
  }

  /** The subject of this name. */
  public static Subject named(String name) {
    return Arrays.stream(values())
        .filter(subject -> subject.name.equals(name))
        .findFirst()
        .orElseThrow(() -> BertologyException.invalid("unknown model %s", name));
  }

  /** Gives a model that is not causal and has no classifier one of two classes. */
  public static void completeClassifier(Model model) {
    if (!model.config().architecture().isCausal() && !model.hasClassifier()) {
      int width = model.config().hiddenSize();
      float[][] weight = new float[2][width];
      Arrays.fill(weight[0], 1f / width);
      Arrays.fill(weight[1], -1f / width);
      model.setClassifier(
          List.of("0", "1"), ModelConfig.Pooling.CLS_NORMALIZED, weight, new float[2]);
    }
  }

  /** The folder of {@link #BGE_SMALL}, with its tokenizer. */
  public static Path bgeSmallFolder() {
    Path folder =
        Path.of(System.getProperty("bertology.home", ".")).resolve("models/bge-small-en-v1.5");
    BertologyException.check(
        Files.isDirectory(folder),
        "%s is missing: bin/bertology-benchmarks finds the models that come along",
        folder);
    return folder;
  }
}
