package org.bertology4j;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.util.function.Function;
import org.bertology4j.internal.binding.bertology;
import org.bertology4j.internal.binding.bertology_config;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;

/** A configuration as the native library takes it. */
final class NativeConfig {
  private NativeConfig() {}

  /** Calls it with the native configuration, which lives as long as the call. */
  static <T> T use(ModelConfig config, DType dtype, Function<bertology_config, T> call) {
    ByteBuffer memory = ByteBuffer.allocateDirect(new bertology_config((Pointer) null).sizeof());
    bertology_config shape = new bertology_config(new BytePointer(memory));
    shape.num_hidden_layers(config.numHiddenLayers());
    shape.num_attention_heads(config.numAttentionHeads());
    shape.hidden_size(config.hiddenSize());
    shape.intermediate_size(config.intermediateSize());
    shape.vocab_size(config.vocabSize());
    shape.max_position_embeddings(config.maxPositionEmbeddings());
    shape.type_vocab_size(config.typeVocabSize());
    shape.hidden_act(
        switch (config.hiddenAct()) {
          case GELU -> bertology.BERTOLOGY_GELU;
          case GELU_NEW -> bertology.BERTOLOGY_GELU_NEW;
          case RELU -> bertology.BERTOLOGY_RELU;
          case SILU -> bertology.BERTOLOGY_SILU;
          case TANH -> bertology.BERTOLOGY_TANH;
        });
    shape.layer_norm_eps(config.layerNormEps());
    shape.num_labels(config.labels().size());
    shape.pooling(code(config.pooling()));
    shape.dtype(Device.code(dtype));
    shape.model_type(
        switch (config.architecture()) {
          case BERT -> bertology.BERTOLOGY_BERT;
          case GPT2 -> bertology.BERTOLOGY_GPT2;
          case OPENAI_GPT -> bertology.BERTOLOGY_OPENAI_GPT;
        });
    shape.scale_attn_weights(config.scaleAttnWeights() ? 1 : 0);
    shape.scale_attn_by_inverse_layer_idx(config.scaleAttnByInverseLayerIdx() ? 1 : 0);
    try {
      return call.apply(shape);
    } finally {
      Reference.reachabilityFence(memory);
    }
  }

  static int code(ModelConfig.Pooling pooling) {
    return switch (pooling) {
      case POOLER -> bertology.BERTOLOGY_POOLER;
      case CLS -> bertology.BERTOLOGY_CLS;
      case CLS_NORMALIZED -> bertology.BERTOLOGY_CLS_NORMALIZED;
      case MEAN -> bertology.BERTOLOGY_MEAN;
      case MEAN_NORMALIZED -> bertology.BERTOLOGY_MEAN_NORMALIZED;
      case LAST -> bertology.BERTOLOGY_LAST;
    };
  }
}
