package org.bertology4j.checkpoint;

import com.google.gson.JsonNull;
import com.google.gson.JsonPrimitive;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.regex.Pattern;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig;
import org.bertology4j.ModelConfig.Architecture;
import org.bertology4j.internal.ParameterMap;

/**
 * A model that has learned nothing, as Hugging Face initialises one: weights from a normal
 * distribution, biases 0, normalisation gains 1, and 0 for the padding token.
 */
final class RandomCheckpoint implements Checkpoint {
  private static final double USUAL_DEVIATION = 0.02;
  private static final Pattern NORM = Pattern.compile("LayerNorm|\\bln_[12f]\\b");

  private final ModelConfig config;
  private final long seed;
  private final double deviation;
  private final int padToken;
  private final Map<String, StoredTensor> tensors = new LinkedHashMap<>();

  RandomCheckpoint(ModelConfig config, long seed) {
    BertologyException.check(
        config.prunedHeads().isEmpty(), "a random model starts with all its heads");
    this.config = config;
    this.seed = seed;
    this.deviation = number("initializer_range", USUAL_DEVIATION);
    boolean pads = !(config.toJson().get("pad_token_id") instanceof JsonNull);
    this.padToken = pads ? (int) number("pad_token_id", 0) : -1;
    for (ParameterMap.Entry entry : ParameterMap.of(config)) {
      tensors.put(
          entry.huggingFace(),
          new StoredTensor(entry.huggingFace(), StoredType.FLOAT32, entry.shape(config), false));
    }
  }

  private double number(String name, double otherwise) {
    return config.toJson().get(name) instanceof JsonPrimitive value && value.isNumber()
        ? value.getAsDouble()
        : otherwise;
  }

  @Override
  public ModelConfig config() {
    return config;
  }

  @Override
  public Map<String, StoredTensor> tensors() {
    return Collections.unmodifiableMap(tensors);
  }

  @Override
  public void read(StoredTensor tensor, ByteBuffer target) {
    BertologyException.check(
        tensor.equals(tensors.get(tensor.name())), "%s has no tensor %s", source(), tensor);
    Segment.checkTarget(tensor.name(), tensor.bytes(), target);
    SplittableRandom random = new SplittableRandom(seed * 31 + tensor.name().hashCode());
    boolean norm = NORM.matcher(tensor.name()).find();
    boolean bias = tensor.name().endsWith("bias");
    double deviation = this.deviation;
    if (config.architecture() == Architecture.GPT2 && tensor.name().endsWith("c_proj.weight")) {
      // What the residual stream adds up grows with the layers.
      deviation /= Math.sqrt(2.0 * config.numHiddenLayers());
    }
    ByteBuffer values = target.slice().order(ByteOrder.LITTLE_ENDIAN);
    while (values.hasRemaining()) {
      double value = norm ? 1 : random.nextGaussian() * deviation;
      values.putFloat(bias ? 0f : (float) value);
    }
    if (tensor.name().equals(ParameterNames.WORD_EMBEDDINGS)
        && padToken >= 0
        && padToken < config.vocabSize()) {
      values.position(padToken * config.hiddenSize() * Float.BYTES);
      values.put(new byte[config.hiddenSize() * Float.BYTES]);
    }
    target.position(target.limit());
  }

  @Override
  public Path source() {
    return Path.of("random model " + seed);
  }

  @Override
  public Optional<Path> folder() {
    return Optional.empty();
  }

  @Override
  public void close() {
    // Nothing is open.
  }
}
