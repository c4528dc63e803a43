package org.bertology4j.checkpoint;

import com.google.gson.JsonPrimitive;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.SplittableRandom;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig;
import org.bertology4j.internal.ParameterMap;

/**
 * A model that has learned nothing, as Hugging Face initialises one: weights from a normal
 * distribution, biases 0, normalisation gains 1.
 */
final class RandomCheckpoint implements Checkpoint {
  private static final double USUAL_DEVIATION = 0.02;

  private final ModelConfig config;
  private final long seed;
  private final double deviation;
  private final Map<String, StoredTensor> tensors = new LinkedHashMap<>();

  RandomCheckpoint(ModelConfig config, long seed) {
    BertologyException.check(
        config.prunedHeads().isEmpty(), "a random model starts with all its heads");
    this.config = config;
    this.seed = seed;
    this.deviation =
        config.toJson().get("initializer_range") instanceof JsonPrimitive range && range.isNumber()
            ? range.getAsDouble()
            : USUAL_DEVIATION;
    for (ParameterMap.Entry entry : ParameterMap.of(config)) {
      tensors.put(
          entry.huggingFace(),
          new StoredTensor(entry.huggingFace(), StoredType.FLOAT32, entry.shape(config), false));
    }
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
        target.remaining() == tensor.bytes(),
        "tensor %s has %d bytes, the buffer takes %d",
        tensor.name(),
        tensor.bytes(),
        target.remaining());
    SplittableRandom random = new SplittableRandom(seed * 31 + tensor.name().hashCode());
    boolean norm = tensor.name().contains("LayerNorm");
    boolean bias = tensor.name().endsWith("bias");
    target.order(ByteOrder.LITTLE_ENDIAN);
    while (target.hasRemaining()) {
      double value = norm ? 1 : random.nextGaussian() * deviation;
      target.putFloat(bias ? 0f : (float) value);
    }
  }

  @Override
  public Path source() {
    return Path.of("random model " + seed);
  }

  @Override
  public void close() {
    // Nothing is open.
  }
}
