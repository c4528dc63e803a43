package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.function.UnaryOperator;
import org.bertology4j.BertologyException.Kind;
import org.bertology4j.ModelConfig.Architecture;
import org.bertology4j.ModelConfig.HiddenAct;
import org.bertology4j.ModelConfig.Task;
import org.bertology4j.checkpoint.Checkpoint;
import org.bertology4j.checkpoint.SafetensorsFile;
import org.bertology4j.checkpoint.SafetensorsType;
import org.bertology4j.checkpoint.SafetensorsWriter;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Configurations, checkpoints and scores of GPT-2 and OpenAI GPT. */
class GptTest {
  @TempDir Path temporary;

  private static JsonObject config(String golden) throws IOException {
    return JsonParser.parseString(Files.readString(Golden.folder(golden).resolve("config.json")))
        .getAsJsonObject();
  }

  private static ModelConfig changed(String golden, Consumer<JsonObject> change)
      throws IOException {
    JsonObject json = config(golden);
    change.accept(json);
    return ModelConfig.fromJson(json, "config");
  }

  private static void assertFails(
      Kind kind, String text, org.junit.jupiter.api.function.Executable call) {
    BertologyException e = assertThrows(BertologyException.class, call);
    assertEquals(kind, e.kind(), e.getMessage());
    assertTrue(e.getMessage().contains(text), e.getMessage());
  }

  /** A golden folder with its tensors under other names, and perhaps more. */
  private Path renamed(
      String golden, UnaryOperator<String> name, List<SafetensorsWriter.Entry> more)
      throws IOException {
    Path folder = Files.createDirectories(temporary.resolve("renamed"));
    Files.writeString(folder.resolve("config.json"), config(golden).toString());
    List<SafetensorsWriter.Entry> entries = new ArrayList<>(more);
    Path weights = Golden.folder(golden).resolve("model.safetensors");
    try (SafetensorsFile file = SafetensorsFile.open(weights)) {
      for (SafetensorsFile.Tensor tensor : file.tensors().values()) {
        ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes());
        file.read(tensor, bytes);
        entries.add(
            SafetensorsWriter.Entry.of(
                name.apply(tensor.name()), tensor.type(), tensor.shape(), bytes.flip()));
      }
    }
    SafetensorsWriter.write(
        folder.resolve("model.safetensors"), SafetensorsWriter.HUGGING_FACE_METADATA, entries);
    return folder;
  }

  private static SafetensorsWriter.Entry zeros(String name, SafetensorsType type, Long... shape) {
    int bytes = Float.BYTES;
    for (long size : shape) {
      bytes *= (int) size;
    }
    return SafetensorsWriter.Entry.of(name, type, List.of(shape), ByteBuffer.allocate(bytes));
  }

  private static Map<String, List<Long>> shapes(Path folder) {
    Map<String, List<Long>> shapes = new TreeMap<>();
    try (SafetensorsFile file = SafetensorsFile.open(folder.resolve("model.safetensors"))) {
      file.tensors().values().forEach(tensor -> shapes.put(tensor.name(), tensor.shape()));
    }
    return shapes;
  }

  private static final Batch BATCH = Batch.of(new int[] {5, 9, 2, 40}, new int[] {7, 1});

  private static float[] tokenLogits(Model model) {
    try (Activations run = model.run(BATCH, Capture.TOKEN_LOGITS)) {
      return run.tokenLogits(0).toArray();
    }
  }

  // ------------------------------------------------------------------------------ configurations

  @Test
  void configurationsHaveTheirOwnNames() throws IOException {
    ModelConfig gpt2 = changed("gpt2_masked", json -> {});
    assertEquals(Architecture.GPT2, gpt2.architecture());
    assertEquals(Task.CAUSAL_LM, gpt2.task());
    assertEquals(HiddenAct.SILU, gpt2.hiddenAct());
    assertEquals(50, gpt2.intermediateSize());
    assertEquals(24, gpt2.maxPositionEmbeddings());
    assertEquals(0, gpt2.typeVocabSize());
    assertEquals(1e-5f, gpt2.layerNormEps());
    assertTrue(gpt2.scaleAttnByInverseLayerIdx() && gpt2.scaleAttnWeights());
    assertTrue(gpt2.tiedEmbeddings());
    assertFalse(changed("gpt2_regression", json -> {}).scaleAttnWeights());
    assertFalse(changed("gpt2_untied", json -> {}).tiedEmbeddings());
    assertEquals(Task.SEQUENCE_CLASSIFICATION, changed("gpt_pruned", json -> {}).task());
    assertEquals(Task.CAUSAL_LM, changed("gpt_double_heads", json -> {}).task());
    assertEquals(Task.ENCODER, changed("gpt2_encoder", json -> {}).task());
    // What openai-gpt calls gelu is its approximation.
    assertEquals(HiddenAct.GELU_NEW, changed("gpt_lm", json -> {}).hiddenAct());
    assertEquals(
        HiddenAct.GELU,
        changed("gpt2_lm", json -> json.addProperty("activation_function", "gelu")).hiddenAct());
    ModelConfig usual =
        changed(
            "gpt2_lm",
            json -> {
              json.remove("n_inner");
              json.remove("activation_function");
              json.remove("layer_norm_epsilon");
              json.add("n_ctx", json.remove("n_positions"));
              json.add("hidden_size", json.remove("n_embd"));
            });
    assertEquals(128, usual.intermediateSize());
    assertEquals(HiddenAct.GELU_NEW, usual.hiddenAct());
    assertEquals(24, usual.maxPositionEmbeddings());
    assertEquals(32, usual.hiddenSize());
  }

  @Test
  void configurationsThatAreNotSupported() {
    assertFails(
        Kind.UNSUPPORTED,
        "add_cross_attention",
        () -> changed("gpt2_lm", json -> json.addProperty("add_cross_attention", true)));
    assertFails(
        Kind.UNSUPPORTED,
        "activation_function \"mish\"",
        () -> changed("gpt2_lm", json -> json.addProperty("activation_function", "mish")));
    assertFails(
        Kind.INVALID_ARGUMENT,
        "n_embd 33 is not a multiple of n_head 4",
        () -> changed("gpt_lm", json -> json.addProperty("n_embd", 33)));
    assertFails(
        Kind.INVALID_ARGUMENT,
        "has no n_layer",
        () -> changed("gpt_lm", json -> json.remove("n_layer")));
    assertFails(
        Kind.INVALID_ARGUMENT,
        "scale_attn_weights is 1, expected true or false",
        () -> changed("gpt2_lm", json -> json.addProperty("scale_attn_weights", 1)));
    assertFails(
        Kind.INVALID_ARGUMENT,
        "\"pooler\", which gpt2 does not have",
        () -> changed("gpt2_lm", json -> json.addProperty("bertology_pooling", "pooler")));
  }

  // ---------------------------------------------------------------------------------- checkpoints

  @ParameterizedTest
  @ValueSource(strings = {"gpt2_lm", "gpt_lm"})
  void namesHaveAPrefixOrNone(String golden) throws IOException {
    try (Model model = Model.load(Golden.folder(golden));
        Model plain =
            Model.load(renamed(golden, name -> name.replace("transformer.", ""), List.of()))) {
      assertArrayEquals(tokenLogits(model), tokenLogits(plain));
    }
    try (Model model = Model.load(Golden.folder("gpt2_encoder"));
        Model prefixed =
            Model.load(renamed("gpt2_encoder", name -> "transformer." + name, List.of()))) {
      assertArrayEquals(tokenLogits(model), tokenLogits(prefixed));
    }
  }

  @Test
  void causalMasksBesideTheWeightsAreIgnored() throws IOException {
    Path folder =
        renamed(
            "gpt2_lm",
            UnaryOperator.identity(),
            List.of(
                zeros("transformer.h.0.attn.bias", SafetensorsType.F32, 1L, 1L, 24L, 24L),
                zeros("transformer.h.1.attn.masked_bias", SafetensorsType.F32),
                zeros("lm_head.weight", SafetensorsType.F32, 61L, 32L)));
    try (Model model = Model.load(Golden.folder("gpt2_lm"));
        Model old = Model.load(folder)) {
      assertArrayEquals(tokenLogits(model), tokenLogits(old), "tied, whatever lm_head says");
      old.save(temporary.resolve("saved"));
      Set<String> names = shapes(temporary.resolve("saved")).keySet();
      assertTrue(names.contains("transformer.h.0.attn.c_attn.bias"));
      assertFalse(names.contains("transformer.h.0.attn.bias"));
      assertFalse(names.contains("transformer.h.1.attn.masked_bias"));
    }
  }

  @Test
  void shapesAgainstTheConfiguration() throws IOException {
    Path folder = renamed("gpt2_lm", UnaryOperator.identity(), List.of());
    JsonObject json = config("gpt2_lm");
    json.addProperty("n_embd", 36);
    Files.writeString(folder.resolve("config.json"), json.toString());
    assertFails(
        Kind.INVALID_ARGUMENT, "shape [61, 32], expected [61, 36]", () -> Model.load(folder));
    json.addProperty("n_embd", 32);
    json.add("pruned_heads", JsonParser.parseString("{\"1\": [0]}"));
    Files.writeString(folder.resolve("config.json"), json.toString());
    assertFails(Kind.INVALID_ARGUMENT, "h.1.attn.c_attn.weight", () -> Model.load(folder));
    json.remove("pruned_heads");
    json.addProperty("model_type", "openai-gpt");
    Files.writeString(folder.resolve("config.json"), json.toString());
    assertFails(
        Kind.INVALID_ARGUMENT,
        "no weights of openai-gpt: expected tokens_embed.weight",
        () -> Model.load(folder));
  }

  @Test
  void foldersAreSavedAsHuggingFaceHasThem() throws IOException {
    for (String golden :
        List.of("gpt2_lm", "gpt_lm", "gpt2_double_heads", "gpt2_untied", "gpt2_encoder")) {
      try (Model model = Model.load(Golden.folder(golden))) {
        Path folder = temporary.resolve(golden);
        model.save(folder);
        assertEquals(shapes(Golden.folder(golden)), shapes(folder), golden);
        assertEquals(config(golden), model.config().toJson());
      }
    }
    try (Model model = Model.load(Golden.folder("gpt2_lm"))) {
      model.pruneHeads(Heads.parse("0:1;1:0,1,2,3;2:0,2,3"));
      Path folder = temporary.resolve("pruned");
      model.save(folder);
      Map<String, List<Long>> shapes = shapes(folder);
      assertEquals(List.of(32L, 72L), shapes.get("transformer.h.0.attn.c_attn.weight"));
      assertEquals(List.of(72L), shapes.get("transformer.h.0.attn.c_attn.bias"));
      assertEquals(List.of(24L, 32L), shapes.get("transformer.h.0.attn.c_proj.weight"));
      assertEquals(List.of(32L), shapes.get("transformer.h.0.attn.c_proj.bias"));
      assertEquals(List.of(32L, 0L), shapes.get("transformer.h.1.attn.c_attn.weight"));
      try (Model reloaded = Model.load(folder)) {
        assertArrayEquals(tokenLogits(model), tokenLogits(reloaded));
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"gpt2_lm", "gpt_lm"})
  void randomModelsHaveLearnedNothing(String golden) throws IOException {
    ModelConfig config = changed(golden, json -> json.addProperty("initializer_range", 0.02));
    try (Model model = Model.load(Checkpoint.random(config, 3), ModelOptions.defaults());
        Model same = Model.load(Checkpoint.random(config, 3), ModelOptions.defaults());
        Model other = Model.load(Checkpoint.random(config, 4), ModelOptions.defaults())) {
      assertArrayEquals(tokenLogits(model), tokenLogits(same));
      assertFalse(java.util.Arrays.equals(tokenLogits(model), tokenLogits(other)));
      LanguageModelScore score = LanguageModelScore.measure(model, List.of(BATCH.withNextTokens()));
      assertEquals(Math.log(61), score.meanLoss(), 0.2);
    }
  }

  // ---------------------------------------------------------------------------------------- tasks

  @Test
  void whatAModelLacksIsSaidWhenItIsNeeded() {
    try (Model model = Model.load(Golden.folder("gpt2_lm"))) {
      assertTrue(model.hasCausalLm());
      assertFalse(model.hasMaskedLm());
      assertFalse(model.hasClassifier());
      assertFails(
          Kind.UNSUPPORTED, "classifier.weight", () -> model.run(BATCH, Capture.LOGITS).close());
      assertFails(
          Kind.INVALID_ARGUMENT,
          "MASKED_LM is BERT's",
          () ->
              model
                  .run(
                      BATCH.withTokenLabels(new int[] {1, 1, 1, 1}, new int[] {1, 1}), Capture.LOSS)
                  .close());
      assertFails(
          Kind.INVALID_ARGUMENT,
          "example 0 has no token to predict",
          () -> model.run(Batch.of(new int[] {3}).withNextTokens(), Capture.LOSS).close());
    }
    try (Model bert = Model.load(Golden.folder("masked_lm"))) {
      assertFalse(bert.hasCausalLm());
      assertFails(
          Kind.INVALID_ARGUMENT,
          "CAUSAL_LM is a GPT's",
          () -> bert.run(BATCH.withNextTokens(), Capture.LOSS).close());
      assertFails(
          Kind.INVALID_ARGUMENT,
          "no norm behind its last layer",
          () -> bert.run(BATCH, Capture.LAST_BLOCK_STATE).close());
    }
  }

  @Test
  void classifiersOfAnyModelCanBeSetByHand() {
    float[][] weight = new float[2][32];
    weight[0][3] = 1;
    weight[1][4] = 2;
    try (Model model = Model.load(Golden.folder("gpt_lm"))) {
      model.setClassifier(
          List.of("no", "yes"), ModelConfig.Pooling.LAST, weight, new float[] {0.5f, 0});
      model.save(temporary);
      try (Model reloaded = Model.load(temporary)) {
        assertEquals(Task.SEQUENCE_CLASSIFICATION, reloaded.config().task());
        assertEquals(
            "OpenAIGPTForSequenceClassification",
            reloaded.config().toJson().getAsJsonArray("architectures").get(0).getAsString());
        Capture[] captures = {Capture.LOGITS, Capture.HIDDEN_STATES};
        try (Activations run = model.run(BATCH, captures);
            Activations again = reloaded.run(BATCH, captures)) {
          for (int b = 0; b < 2; b++) {
            FloatTensor states = run.hiddenState(3, b);
            long last = BATCH.length(b) - 1;
            assertEquals(states.get(last, 3) + 0.5f, run.logits(b).get(0), 1e-5f);
            assertEquals(2 * states.get(last, 4), run.logits(b).get(1), 1e-5f);
            assertArrayEquals(run.logits(b).toArray(), again.logits(b).toArray());
          }
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"gpt2_lm", "gpt_masked", "masked_lm"})
  void scoresAreOverAllTokensThatCount(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      Batch batch = golden.batch(model.config());
      model.maskHeads(golden.mask(model.config()));
      int shift = name.equals("masked_lm") ? 0 : 1;
      double loss = 0;
      int tokens = 0;
      int right = 0;
      for (int b = 0; b < batch.examples(); b++) {
        int[] labels = batch.tokenLabels(b);
        double[] logits = golden.doubles("token_logits." + b);
        int counted = 0;
        for (int i = shift; i < labels.length; i++) {
          if (labels[i] == Batch.IGNORED_LABEL) {
            continue;
          }
          int vocabulary = logits.length / labels.length;
          int best = 0;
          for (int c = 1; c < vocabulary; c++) {
            int row = (i - shift) * vocabulary;
            best = logits[row + c] > logits[row + best] ? c : best;
          }
          counted++;
          right += best == labels[i] ? 1 : 0;
        }
        assertEquals(counted, batch.predictedTokens(b));
        loss += golden.doubles("loss." + b)[0] * counted;
        tokens += counted;
      }
      LanguageModelScore score = LanguageModelScore.measure(model, List.of(batch));
      assertEquals(tokens, score.tokens());
      assertEquals(loss / tokens, score.meanLoss(), 5e-6);
      assertEquals(Math.exp(loss / tokens), score.perplexity(), 5e-6 * score.perplexity());
      assertEquals((double) right / tokens, score.accuracy());
    }
  }
}
