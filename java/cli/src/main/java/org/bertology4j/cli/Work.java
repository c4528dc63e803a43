package org.bertology4j.cli;

import org.bertology4j.Batch;
import org.bertology4j.ModelConfig;

/**
 * Floating-point operations that passes over a batch need, counted of real tokens. Of BERT the
 * products with the layers' weight matrices count, of causal models those of attention and of the
 * vocabulary too.
 */
public final class Work {
  private Work() {}

  /** Of a forward pass up to the last hidden state. */
  public static double forward(ModelConfig config, Batch batch) {
    double products = products(config, batch.tokens());
    return config.architecture().isCausal() ? products + attention(config, batch) : products;
  }

  /** Of a forward and a backward pass with a loss; of causal models that of their next tokens. */
  public static double importance(ModelConfig config, Batch batch) {
    double products = 2 * products(config, batch.tokens());
    // Of attention's backward the four products of its gradients count, not the scores that are
    // computed again.
    return config.architecture().isCausal()
        ? products + 3 * attention(config, batch) + 2 * vocabulary(config, batch)
        : products;
  }

  /** Of a causal model's logits of the tokens that are predicted. */
  public static double vocabulary(ModelConfig config, Batch batch) {
    long predicted = (long) batch.tokens() - batch.examples();
    return 2.0 * config.hiddenSize() * config.vocabSize() * predicted;
  }

  /** Of scores and their products with values, below the diagonal and on it. */
  private static double attention(ModelConfig config, Batch batch) {
    double pairs = 0;
    for (int b = 0; b < batch.examples(); b++) {
      pairs += 0.5 * batch.length(b) * (batch.length(b) + 1.0);
    }
    return 4 * pairs * config.hiddenSize() * config.numHiddenLayers();
  }

  /** Of the layers' weight matrices, of the heads that are left. */
  private static double products(ModelConfig config, long tokens) {
    double hidden = config.hiddenSize();
    double pruned = 0;
    for (int layer : config.prunedHeads().layers()) {
      pruned += config.prunedHeads().of(layer).size();
    }
    double heads = (double) config.numAttentionHeads() * config.numHiddenLayers() - pruned;
    double attention = 4 * hidden * config.headDim() * heads;
    double feedForward = 2 * hidden * config.intermediateSize() * config.numHiddenLayers();
    return 2 * (attention + feedForward) * tokens;
  }
}
