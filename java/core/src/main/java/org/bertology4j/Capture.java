package org.bertology4j;

import static org.bertology4j.internal.binding.bertology.BERTOLOGY_ATTENTIONS;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_ATTENTION_ENTROPIES;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_ATTENTION_GRADIENTS;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_HEAD_GRADIENTS;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_HEAD_OUTPUTS;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_HEAD_OUTPUT_GRADIENTS;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_HIDDEN_STATES;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_HIDDEN_STATE_GRADIENTS;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_LAST_BLOCK_STATE;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_LOGITS;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_LOSS;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_POOLER_OUTPUT;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_TOKEN_HEAD_GRADIENTS;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_TOKEN_LOGITS;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_TOKEN_LOSSES;
import static org.bertology4j.internal.binding.bertology.BERTOLOGY_TOKEN_PREDICTIONS;

import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;

/**
 * What a run shows of the model's inside: of all layers, or of those named by {@link #layers}. What
 * no capture needs is not computed, and what is not captured is not kept.
 *
 * <p>In the shapes, n is the length of an example, L {@code numHiddenLayers}, H {@code
 * numAttentionHeads}, K the heads that the layer still has, D {@code hiddenSize}, d {@code
 * headDim}. Gradients are those of each example's own loss and need a batch with labels.
 */
public final class Capture {
  /** The classifier's outputs, [labels] an example. */
  public static final Capture LOGITS = new Capture("logits", BERTOLOGY_LOGITS, false);

  /** The language model's outputs, [n, vocabulary] an example. */
  public static final Capture TOKEN_LOGITS =
      new Capture("token_logits", BERTOLOGY_TOKEN_LOGITS, false);

  /** What the classifier sees, [D] an example; for a model with a pooler, the pooler's output. */
  public static final Capture POOLER_OUTPUT =
      new Capture("pooler_output", BERTOLOGY_POOLER_OUTPUT, false);

  /**
   * Layers 0 to L, [n, D]: 0 is the embeddings, L the last layer's output, of GPT-2 behind the
   * final norm.
   */
  public static final Capture HIDDEN_STATES =
      new Capture("hidden_states", BERTOLOGY_HIDDEN_STATES, true);

  /**
   * Layers 0 to L-1, [K, n, n]: probabilities times the head mask, as Hugging Face gives them. What
   * a causal token does not see is 0.
   */
  public static final Capture ATTENTIONS = new Capture("attentions", BERTOLOGY_ATTENTIONS, true);

  /**
   * Layers 0 to L-1, [K, n]: the entropy of each row of attention in nats, before the head mask.
   */
  public static final Capture ATTENTION_ENTROPIES =
      new Capture("attention_entropies", BERTOLOGY_ATTENTION_ENTROPIES, true);

  /** Layers 0 to L-1, [n, K, d]: before the output matrix and before the head mask. */
  public static final Capture HEAD_OUTPUTS =
      new Capture("head_outputs", BERTOLOGY_HEAD_OUTPUTS, true);

  /** The loss of each example. */
  public static final Capture LOSS = new Capture("loss", BERTOLOGY_LOSS, false);

  /**
   * [L, H] an example: the derivative of its loss with respect to the head mask (Michel et al.
   * 2019); 0 for pruned heads, and for masked ones unless {@link RunOptions#maskedGradients} asks
   * for them.
   */
  public static final Capture HEAD_GRADIENTS =
      new Capture("head_gradients", BERTOLOGY_HEAD_GRADIENTS, false);

  /** [L, H] an example: the same with the absolute value taken of each token's part. */
  public static final Capture TOKEN_HEAD_GRADIENTS =
      new Capture("token_head_gradients", BERTOLOGY_TOKEN_HEAD_GRADIENTS, false);

  /** Layers 0 to L-1, [n, K, d]: gradients with respect to {@link #HEAD_OUTPUTS}. */
  public static final Capture HEAD_OUTPUT_GRADIENTS =
      new Capture("head_output_gradients", BERTOLOGY_HEAD_OUTPUT_GRADIENTS, true);

  /** Layers 0 to L-1, [K, n, n]: gradients with respect to {@link #ATTENTIONS}. */
  public static final Capture ATTENTION_GRADIENTS =
      new Capture("attention_gradients", BERTOLOGY_ATTENTION_GRADIENTS, true);

  /** Layers 0 to L, [n, D]: gradients with respect to {@link #HIDDEN_STATES}. */
  public static final Capture HIDDEN_STATE_GRADIENTS =
      new Capture("hidden_state_gradients", BERTOLOGY_HIDDEN_STATE_GRADIENTS, true);

  /** [n, D]: GPT-2's last layer before the final norm, which Hugging Face does not give. */
  public static final Capture LAST_BLOCK_STATE =
      new Capture("last_block_state", BERTOLOGY_LAST_BLOCK_STATE, false);

  /**
   * [n]: the cross entropy of each token's {@link #TOKEN_LOGITS}, in nats; 0 where there is nothing
   * to predict.
   */
  public static final Capture TOKEN_LOSSES =
      new Capture("token_losses", BERTOLOGY_TOKEN_LOSSES, false);

  /** [n]: the id of the largest of each token's {@link #TOKEN_LOGITS}. */
  public static final Capture TOKEN_PREDICTIONS =
      new Capture("token_predictions", BERTOLOGY_TOKEN_PREDICTIONS, false);

  private static final List<Capture> ALL =
      List.of(
          LOGITS,
          TOKEN_LOGITS,
          POOLER_OUTPUT,
          HIDDEN_STATES,
          ATTENTIONS,
          ATTENTION_ENTROPIES,
          HEAD_OUTPUTS,
          LOSS,
          HEAD_GRADIENTS,
          TOKEN_HEAD_GRADIENTS,
          HEAD_OUTPUT_GRADIENTS,
          ATTENTION_GRADIENTS,
          HIDDEN_STATE_GRADIENTS,
          LAST_BLOCK_STATE,
          TOKEN_LOSSES,
          TOKEN_PREDICTIONS);

  private final String name;
  private final int code;
  private final boolean layered;
  private final int[] layers;

  private Capture(String name, int code, boolean layered, int... layers) {
    this.name = name;
    this.code = code;
    this.layered = layered;
    this.layers = layers;
  }

  /** All kinds of captures. */
  public static List<Capture> all() {
    return ALL;
  }

  /** The capture of this name, such as "hidden_states". */
  public static Capture parse(String name) {
    String wanted = name.strip().toLowerCase(Locale.ROOT);
    return ALL.stream()
        .filter(capture -> capture.name.equals(wanted))
        .findFirst()
        .orElseThrow(
            () ->
                BertologyException.invalid(
                    "capture \"%s\" is unknown; known are %s",
                    name, ALL.stream().map(Capture::toString).collect(Collectors.joining(", "))));
  }

  /** The same capture of these layers only. */
  public Capture layers(int... some) {
    BertologyException.check(layered, "capture %s has no layers", name);
    BertologyException.check(some.length > 0, "capture %s: no layers are named", name);
    return new Capture(name, code, true, some.clone());
  }

  /** Whether it is one tensor a layer. */
  public boolean isLayered() {
    return layered;
  }

  /** Whether it needs a backward pass, and so a batch with labels. */
  public boolean isGradient() {
    return name.endsWith("gradients");
  }

  /** Its name, such as "hidden_states". */
  @Override
  public String toString() {
    return name;
  }

  int code() {
    return code;
  }

  /** The layers asked for; empty for all. */
  int[] layersArray() {
    return layers;
  }
}
