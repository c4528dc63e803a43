package org.bertology4j.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.charset.StandardCharsets;
import java.util.List;
import org.bertology4j.Batch;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class BatchesTest {
  /** 3, 4, 5, 3 and 6 tokens. */
  private static final List<TextPair> TEXTS =
      List.of(
          TextPair.of("a"),
          TextPair.of("a b"),
          TextPair.of("a", "b"),
          TextPair.of("b"),
          TextPair.of("b b", "a"));

  private static Tokenizer tokenizer;

  @BeforeAll
  static void load() {
    tokenizer =
        Tokenizer.ofJson(
            new String(Expect.resource("tokenizer/uncased/tokenizer.json"), StandardCharsets.UTF_8),
            "uncased",
            TokenizerOptions.defaults());
  }

  @AfterAll
  static void close() {
    tokenizer.close();
  }

  private static List<Integer> sizes(List<Batch> batches) {
    return batches.stream().map(Batch::examples).toList();
  }

  @Test
  void ofSoManyExamples() {
    Dataset dataset = Dataset.of("d", TEXTS);
    assertEquals(List.of(2, 2, 1), sizes(Batches.ofExamples(tokenizer, dataset, 2)));
    assertEquals(List.of(5), sizes(Batches.ofExamples(tokenizer, dataset, 5)));
    assertEquals(List.of(5), sizes(Batches.ofExamples(tokenizer, dataset, 99)));
    assertEquals(List.of(1, 1, 1, 1, 1), sizes(Batches.ofExamples(tokenizer, dataset, 1)));
    Expect.invalid(() -> Batches.ofExamples(tokenizer, dataset, 0), "0 examples");
  }

  @Test
  void ofSoManyTokens() {
    Dataset dataset = Dataset.of("d", TEXTS);
    assertEquals(List.of(2, 1, 1, 1), sizes(Batches.ofTokens(tokenizer, dataset, 7)));
    assertEquals(List.of(2, 2, 1), sizes(Batches.ofTokens(tokenizer, dataset, 8)));
    assertEquals(List.of(3, 2), sizes(Batches.ofTokens(tokenizer, dataset, 12)));
    assertEquals(List.of(5), sizes(Batches.ofTokens(tokenizer, dataset, Integer.MAX_VALUE)));
    assertEquals(List.of(1, 1, 1, 1, 1), sizes(Batches.ofTokens(tokenizer, dataset, 1)));
    Expect.invalid(() -> Batches.ofTokens(tokenizer, dataset, 0), "0 tokens");
  }

  @Test
  void areTheExamplesInTheirOrder() {
    Batch all = tokenizer.encode(TEXTS);
    int example = 0;
    for (Batch batch : Batches.ofTokens(tokenizer, Dataset.of("d", TEXTS), 8)) {
      assertEquals(Batch.Loss.NONE, batch.loss());
      for (int i = 0; i < batch.examples(); i++, example++) {
        assertArrayEquals(all.inputIds(example), batch.inputIds(i));
        assertArrayEquals(all.tokenTypeIds(example), batch.tokenTypeIds(i));
      }
    }
    assertEquals(5, example);
  }

  @Test
  void haveTheirLabels() {
    Dataset classes = Dataset.ofClasses("d", TEXTS, Labels.classes("x", "y", "z"), 0, 1, 2, 1, 0);
    List<Batch> batches = Batches.ofExamples(tokenizer, classes, 3);
    assertEquals(Batch.Loss.CLASSIFICATION, batches.get(1).loss());
    assertEquals(2, batches.get(0).label(2));
    assertEquals(1, batches.get(1).label(0));
    assertEquals(0, batches.get(1).label(1));
    Dataset numbers = Dataset.ofTargets("d", TEXTS, 0.5, 1.5, 2.5, 3.5, 4.5);
    List<Batch> regression = Batches.ofExamples(tokenizer, numbers, 4);
    assertEquals(Batch.Loss.REGRESSION, regression.get(0).loss());
    assertEquals(3.5f, regression.get(0).target(3));
    assertEquals(4.5f, regression.get(1).target(0));
  }

  @Test
  void nameTheExampleThatHasNoTokens() {
    Dataset dataset = Dataset.of("set", List.of(TextPair.of("a"), TextPair.of("\u0001")));
    Expect.invalid(() -> Batches.ofExamples(tokenizer, dataset, 1), "set: example 1 has no tokens");
  }
}
