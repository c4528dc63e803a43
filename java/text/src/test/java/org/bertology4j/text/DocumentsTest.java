package org.bertology4j.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalInt;
import java.util.stream.IntStream;
import org.bertology4j.Batch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class DocumentsTest {
  private static final int POSITIONS = 20;

  @TempDir private Path folder;
  private Tokenizer tokenizer;

  @BeforeEach
  void load() {
    for (String file : List.of("vocab.json", "merges.txt")) {
      Expect.write(folder, file, Expect.resource("tokenizer/gpt2/" + file));
    }
    tokenizer = Tokenizer.load(folder, TokenizerOptions.builder().maxLength(POSITIONS).build());
  }

  @AfterEach
  void close() {
    tokenizer.close();
  }

  private Path text(String text) {
    return Expect.write(folder, "text.txt", text);
  }

  private static List<int[]> ids(List<Batch> batches) {
    List<int[]> all = new ArrayList<>();
    batches.forEach(
        batch -> IntStream.range(0, batch.examples()).forEach(b -> all.add(batch.inputIds(b))));
    return all;
  }

  @Test
  void linesAreTexts() {
    Documents documents =
        Documents.ofLines(text("the cat sat\n\n  \non the mat." + " so".repeat(30)), tokenizer);
    assertEquals(2, documents.size());
    List<Batch> batches = documents.batches(1);
    assertEquals(2, batches.size());
    assertArrayEquals(
        tokenizer.encode(TextPair.of("the cat sat")).ids(), batches.get(0).inputIds(0));
    assertEquals(POSITIONS, batches.get(1).length(0), "cut to what the model can take");
    assertEquals(Batch.Loss.NONE, batches.get(0).loss());
    assertEquals("2 texts of " + documents.tokens() + " tokens, 1 of them cut", said(documents));
    Documents first = documents.first(1);
    assertEquals("1 texts of " + first.tokens() + " tokens", said(first));
    assertEquals(1, documents.first(1).size());
    assertEquals(2, documents.first(7).size());
    Expect.invalid(() -> Documents.ofLines(text("\n \n"), tokenizer), "text.txt has no texts");
  }

  private static String said(Documents documents) {
    return documents.toString().substring(documents.toString().indexOf(": ") + 2);
  }

  /** A token that is left over at the end of the last block is predicted from nothing. */
  @Test
  void blocksHaveSomethingToPredict() {
    int[] whole = tokenizer.wholeText("the cat sat on the mat");
    Documents blocks =
        Documents.ofBlocks(
            text("the cat sat on the mat"), tokenizer, whole.length - 1, whole.length - 1);
    assertEquals(1, blocks.allPredicted().size());
    assertEquals(whole.length - 1, blocks.tokens());
    assertEquals(1, Documents.ofBlocks(text("a"), tokenizer, 8, 8).size());
  }

  @Test
  void oneTokenIsNothingToPredict() {
    Documents documents = Documents.ofLines(text("a\nthe cat\nb\n"), tokenizer);
    assertEquals(3, documents.size());
    Documents predicted = documents.predicted();
    assertEquals(1, predicted.size());
    Batch batch = predicted.labelledBatches(10).get(0);
    assertEquals(Batch.Loss.CAUSAL_LM, batch.loss());
    assertArrayEquals(batch.inputIds(0), batch.tokenLabels(0));
    Expect.invalid(
        () -> Documents.ofLines(text("a\nb\n"), tokenizer).predicted(), "no text has two tokens");
    assertEquals(1, predicted.allPredicted().size());
    Expect.invalid(
        () -> Documents.ofLines(text("the cat\n\nb\n"), tokenizer).allPredicted(),
        "text.txt: text 2 of 2 has one token");
  }

  /** Every token of the text counts once, but those that have nothing before them. */
  @ParameterizedTest
  @CsvSource({"8, 8", "8, 4", "8, 7", "8, 1", "20, 13", "2, 1", "2, 2"})
  void blocksCountEveryTokenOnce(int length, int stride) {
    String text = "the cat sat on the mat.\nand so did the dog, in London\n\n not a word more";
    int[] whole = tokenizer.wholeText(text);
    Documents blocks = Documents.ofBlocks(text(text), tokenizer, length, stride);
    List<Batch> batches = blocks.predicted().labelledBatchesOfTokens(25);
    int[] counts = new int[whole.length];
    int block = 0;
    for (Batch batch : batches) {
      for (int b = 0; b < batch.examples(); b++, block++) {
        int start = block * stride;
        int end = Math.min(whole.length, start + length);
        assertArrayEquals(Arrays.copyOfRange(whole, start, end), batch.inputIds(b));
        int[] labels = batch.tokenLabels(b);
        for (int i = 1; i < labels.length; i++) {
          if (labels[i] != Batch.IGNORED_LABEL) {
            assertEquals(whole[start + i], labels[i]);
            counts[start + i]++;
          }
        }
      }
    }
    for (int i = 0; i < counts.length; i++) {
      boolean first = i == 0 || (stride == length && i % length == 0);
      assertEquals(first ? 0 : 1, counts[i], "token " + i);
    }
  }

  @Test
  void wholeTextsAreOfAnyLength() {
    String text = "the cat sat on the mat, \n  and\n so\n".repeat(20_000);
    int[] whole = tokenizer.wholeText(text);
    assertEquals(text, tokenizer.decode(whole));
    // What is divided where lines begin is what is not divided.
    int[] part = tokenizer.wholeText(text.substring(0, 3_500));
    assertArrayEquals(part, Arrays.copyOf(whole, part.length));
    assertEquals(20_000, (double) whole.length / part.length * 100, 1);
  }

  @Test
  void batchesHaveSoManyTokens() {
    Documents documents =
        Documents.ofIds(text("1 2 3\n4 5\n6 7 8 9 10 11\n12 13\n"), 421, POSITIONS);
    List<Batch> batches = documents.batchesOfTokens(5);
    assertEquals(3, batches.size());
    assertEquals(List.of(5, 6, 2), batches.stream().map(Batch::tokens).toList());
    assertArrayEquals(new int[] {6, 7, 8, 9, 10, 11}, ids(batches).get(2));
    assertEquals(2, documents.labelledBatches(3).size());
  }

  /** Lines that were filled up on either side are those that were not. */
  @Test
  void paddingOfIdsIsLeftOut() {
    String lines = "9 9 1 2 9 3\n4 5 9 9 9 9\n9 9 9 9 9 9\n6 7 8 1 2 3\n";
    Documents documents = Documents.ofIds(text(lines), 421, 5, OptionalInt.of(9));
    List<int[]> found = ids(documents.batches(1));
    assertEquals(3, found.size());
    assertArrayEquals(new int[] {1, 2, 9, 3}, found.get(0));
    assertArrayEquals(new int[] {4, 5}, found.get(1));
    assertArrayEquals(new int[] {6, 7, 8, 1, 2}, found.get(2));
    assertEquals(4, Documents.ofIds(text(lines), 421, 5).size());
    Expect.invalid(
        () -> Documents.ofIds(text("9 9\n"), 421, 5, OptionalInt.of(9)), "text.txt has no texts");
  }

  @Test
  void idsThatAreNone() {
    Expect.invalid(
        () -> Documents.ofIds(text("1 2\n3 x\n"), 421, POSITIONS),
        "text.txt:2: \"x\" is no token id, expected 0 to 420");
    Expect.invalid(() -> Documents.ofIds(text("421\n"), 421, POSITIONS), "\"421\" is no token id");
    Expect.invalid(() -> Documents.ofIds(text("-1\n"), 421, POSITIONS), "\"-1\" is no token id");
    Documents cut = Documents.ofIds(text("1 2 3 4 5\n6 7 8\n"), 421, 3);
    assertEquals("2 texts of 6 tokens, 1 of them cut", said(cut));
  }

  @Test
  void blocksThatAreNone() {
    Path file = text("the cat");
    Expect.invalid(
        () -> Documents.ofBlocks(file, tokenizer, 21, 21), "blocks of 21 tokens, expected 2 to 20");
    Expect.invalid(
        () -> Documents.ofBlocks(file, tokenizer, 8, 9), "a stride of 9, expected 1 to 8");
    Expect.invalid(() -> Documents.ofBlocks(file, tokenizer, 8, 0), "a stride of 0");
    Expect.invalid(() -> Documents.ofBlocks(text(""), tokenizer, 8, 8), "has no texts");
  }
}
