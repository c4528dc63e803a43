package org.bertology4j.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ParameterNamesTest {
  private static ParameterNames rules(String prefix) {
    return new ParameterNames(List.of(prefix + "embeddings.word_embeddings.weight", "other"));
  }

  @ParameterizedTest
  @CsvSource({
    // prefix of the encoder, name, canonical name
    "'',pooler.dense.weight,pooler.dense.weight",
    "'',bert.pooler.dense.weight,pooler.dense.weight",
    "bert.,bert.pooler.dense.weight,pooler.dense.weight",
    "bert.,cls.predictions.bias,cls.predictions.bias",
    "bert.,classifier.weight,classifier.weight",
    "bert.,bert.embeddings.LayerNorm.gamma,embeddings.LayerNorm.weight",
    "bert.,bert.embeddings.LayerNorm.beta,embeddings.LayerNorm.bias",
    "model.bert.,model.bert.pooler.dense.bias,pooler.dense.bias",
    "model.bert.,model.classifier.bias,classifier.bias",
    "auto_model.,auto_model.encoder.layer.3.output.dense.bias,encoder.layer.3.output.dense.bias",
    "auto_model.,dense.weight,dense.weight",
    "bert.,alphabet.gamma_rays,alphabet.gamma_rays"
  })
  void makesNamesCanonical(String prefix, String name, String canonical) {
    assertEquals(canonical, rules(prefix).canonical(name));
  }

  @Test
  void takesThePlainPrefixOfSeveral() {
    ParameterNames rules =
        new ParameterNames(
            List.of(
                "a.embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight"));
    assertEquals("pooler.dense.bias", rules.canonical("bert.pooler.dense.bias"));
    assertEquals("a.pooler.dense.bias", rules.canonical("a.pooler.dense.bias"));
  }

  @ParameterizedTest
  @CsvSource({
    "bert/embeddings/word_embeddings,bert.embeddings.word_embeddings.weight,false",
    "bert/embeddings/LayerNorm/gamma,bert.embeddings.LayerNorm.gamma,false",
    "bert/encoder/layer_11/attention/self/query/kernel,"
        + "bert.encoder.layer.11.attention.self.query.weight,true",
    "bert/encoder/layer_0/output/dense/bias,bert.encoder.layer.0.output.dense.bias,false",
    "module/bert/pooler/dense/kernel,bert.pooler.dense.weight,true",
    "module/cls/predictions/output_bias,cls.predictions.bias,false",
    "cls/predictions/transform/dense/kernel,cls.predictions.transform.dense.weight,true",
    "cls/seq_relationship/output_weights,cls.seq_relationship.weight,false",
    "cls/seq_relationship/output_bias,cls.seq_relationship.bias,false",
    "output_weights,classifier.weight,false",
    "output_bias,classifier.bias,false",
    "module/output_bias,classifier.bias,false"
  })
  void renamesVariablesOfTensorFlow(String variable, String name, boolean kernel) {
    assertEquals(
        Optional.of(new ParameterNames.Renamed(name, kernel)),
        ParameterNames.fromTensorFlow(variable));
  }

  @ParameterizedTest
  @CsvSource({"global_step", "bert/pooler/dense/kernel/adam_m", "output_bias/adam_v"})
  void leavesOutWhatOptimizersKeep(String variable) {
    assertEquals(Optional.empty(), ParameterNames.fromTensorFlow(variable));
  }

  @Test
  void knowsTheParametersOfBert() {
    for (String module : ParameterNames.layerModules(23)) {
      assertTrue(ParameterNames.isKnown(module + ".weight"), module);
      assertTrue(ParameterNames.isKnown(module + ".bias"), module);
    }
    assertTrue(ParameterNames.isKnown("cls.predictions.decoder.weight"));
    assertFalse(ParameterNames.isKnown("embeddings.position_ids"));
    assertFalse(ParameterNames.isKnown("encoder.layer.x.output.dense.bias"));
    assertFalse(ParameterNames.isKnown("bert.pooler.dense.weight"));
  }
}
