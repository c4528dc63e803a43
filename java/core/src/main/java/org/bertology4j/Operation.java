package org.bertology4j;

import java.util.Locale;
import org.bertology4j.internal.binding.bertology;

/** The operations of a layer, and of what stands around the layers: {@link Device#measure}. */
public enum Operation {
  /** The sum of embeddings, with its norm. */
  EMBEDDING(bertology.BERTOLOGY_OPERATION_EMBEDDING),
  /** The product that makes queries, keys and values. */
  QUERY_KEY_VALUE(bertology.BERTOLOGY_OPERATION_QUERY_KEY_VALUE),
  ATTENTION_FORWARD(bertology.BERTOLOGY_OPERATION_ATTENTION_FORWARD),
  /** With attention maps and entropies captured. */
  ATTENTION_FORWARD_MAPS(bertology.BERTOLOGY_OPERATION_ATTENTION_FORWARD_MAPS),
  /** The product behind attention. */
  ATTENTION_OUTPUT(bertology.BERTOLOGY_OPERATION_ATTENTION_OUTPUT),
  /** With the residual sum. */
  LAYER_NORM(bertology.BERTOLOGY_OPERATION_LAYER_NORM),
  /** The first product of feed-forward, with the activation. */
  INTERMEDIATE(bertology.BERTOLOGY_OPERATION_INTERMEDIATE),
  /** The second product of feed-forward. */
  OUTPUT(bertology.BERTOLOGY_OPERATION_OUTPUT),
  /** The mean of each text's rows. */
  POOLING(bertology.BERTOLOGY_OPERATION_POOLING),
  GATHER_ROWS(bertology.BERTOLOGY_OPERATION_GATHER_ROWS),
  /** Of a language model, of 1024 tokens at most. */
  CROSS_ENTROPY(bertology.BERTOLOGY_OPERATION_CROSS_ENTROPY),
  ACTIVATION_BACKWARD(bertology.BERTOLOGY_OPERATION_ACTIVATION_BACKWARD),
  LAYER_NORM_BACKWARD(bertology.BERTOLOGY_OPERATION_LAYER_NORM_BACKWARD),
  /** With the activation's slope. */
  OUTPUT_BACKWARD(bertology.BERTOLOGY_OPERATION_OUTPUT_BACKWARD),
  INTERMEDIATE_BACKWARD(bertology.BERTOLOGY_OPERATION_INTERMEDIATE_BACKWARD),
  ATTENTION_OUTPUT_BACKWARD(bertology.BERTOLOGY_OPERATION_ATTENTION_OUTPUT_BACKWARD),
  /** Attention backward where nothing but the gradients of heads is needed. */
  HEAD_GRADIENTS(bertology.BERTOLOGY_OPERATION_HEAD_GRADIENTS),
  ATTENTION_BACKWARD(bertology.BERTOLOGY_OPERATION_ATTENTION_BACKWARD),
  /** With the gradients of the maps captured. */
  ATTENTION_BACKWARD_MAPS(bertology.BERTOLOGY_OPERATION_ATTENTION_BACKWARD_MAPS),
  QUERY_KEY_VALUE_BACKWARD(bertology.BERTOLOGY_OPERATION_QUERY_KEY_VALUE_BACKWARD);

  private final int code;

  Operation(int code) {
    this.code = code;
  }

  int code() {
    return code;
  }

  /** Its name as C code has it, such as "query_key_value". */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
