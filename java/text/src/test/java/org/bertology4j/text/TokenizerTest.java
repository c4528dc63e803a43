package org.bertology4j.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.bertology4j.Batch;
import org.bertology4j.BertologyException;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TokenizerTest {
  private static final String VOCABULARY =
      String.join("\n", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat")
          + "\n";

  @TempDir private Path folder;

  private Path vocabulary() {
    return Expect.write(folder, "vocab.txt", VOCABULARY);
  }

  private void beside(String name, String text) {
    Expect.write(folder, name, text);
  }

  private Tokenizer load() {
    vocabulary();
    return Tokenizer.load(folder);
  }

  private int maxLength(TokenizerOptions options) {
    vocabulary();
    try (Tokenizer tokenizer = Tokenizer.load(folder, options)) {
      return tokenizer.maxLength();
    }
  }

  private List<String> tokens(String text) {
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      return tokenizer.encode(TextPair.of(text)).tokens();
    }
  }

  @Test
  void encodesABatchWithoutPadding() {
    try (Tokenizer tokenizer = load()) {
      Batch batch =
          tokenizer.encode(
              List.of(TextPair.of("The cats sat"), TextPair.of("cat"), TextPair.of("the", "cat")));
      assertEquals(3, batch.examples());
      assertArrayEquals(new int[] {2, 5, 6, 7, 8, 3}, batch.inputIds(0));
      assertArrayEquals(new int[] {2, 6, 3}, batch.inputIds(1));
      assertArrayEquals(new int[] {2, 5, 3, 6, 3}, batch.inputIds(2));
      assertArrayEquals(new int[] {0, 0, 0, 1, 1}, batch.tokenTypeIds(2));
      assertEquals(Batch.Loss.NONE, batch.loss());
    }
  }

  @Test
  void knowsItsVocabulary() {
    try (Tokenizer tokenizer = load()) {
      assertEquals(9, tokenizer.vocabSize());
      assertEquals(6, tokenizer.idOf("cat"));
      assertEquals("##s", tokenizer.tokenOf(7));
      assertTrue(tokenizer.hasToken("cat"));
      assertFalse(tokenizer.hasToken("dog"));
      assertEquals(0, tokenizer.padTokenId());
      assertEquals(1, tokenizer.unkTokenId());
      assertEquals(2, tokenizer.clsTokenId());
      assertEquals(3, tokenizer.sepTokenId());
      assertEquals(4, tokenizer.maskTokenId());
      assertEquals("the cats", tokenizer.decode(2, 5, 6, 7, 3));
      assertEquals("[CLS] the [SEP]", tokenizer.decode(new int[] {2, 5, 3}, false));
      Expect.invalid(() -> tokenizer.idOf("dog"), "vocab.txt", "\"dog\"");
      Expect.invalid(() -> tokenizer.tokenOf(9), "id 9", "0 to 8");
      Expect.invalid(() -> tokenizer.tokenOf(-1), "id -1");
      Expect.invalid(() -> tokenizer.decode(5, 9), "id 9");
    }
  }

  @Test
  void saysWhichExampleHasNoText() {
    try (Tokenizer tokenizer = load()) {
      List<TextPair> texts = List.of(TextPair.of("cat"), TextPair.of(" \t "));
      Expect.invalid(() -> tokenizer.encode(texts), "example 1", "blank");
      Expect.invalid(() -> tokenizer.encode(List.of(TextPair.of("", ""))), "example 0", "blank");
      Expect.invalid(() -> tokenizer.encode(TextPair.of("\u0001\u200b")), "no tokens", "character");
      assertEquals("[CLS] cat [SEP] [SEP]", tokenizer.encode(TextPair.of("cat", "")).toString());
    }
  }

  @Test
  void halfASurrogatePairIsNoCharacter() {
    try (Tokenizer tokenizer = load()) {
      Encoding encoding = tokenizer.encode(TextPair.of("the\ud83d cat \ude00sat 😀"));
      assertEquals("[CLS] the cat sat [UNK] [SEP]", encoding.toString());
      assertArrayEquals(new int[] {-1, 0, 5, 10, 14, -1}, encoding.starts());
      assertArrayEquals(new int[] {-1, 3, 8, 13, 16, -1}, encoding.ends());
    }
  }

  @Test
  void handsOutCopies() {
    try (Tokenizer tokenizer = load()) {
      Encoding encoding = tokenizer.encode(TextPair.of("cat"));
      encoding.ids()[0] = 99;
      encoding.tokenTypeIds()[0] = 99;
      assertArrayEquals(new int[] {2, 6, 3}, encoding.ids());
      assertArrayEquals(new int[] {0, 0, 0}, encoding.tokenTypeIds());
      assertEquals(3, encoding.length());
    }
  }

  @Test
  void maxLengthIsTheSmallerOfTheCallersAndTheModels() {
    TokenizerOptions none = TokenizerOptions.defaults();
    TokenizerOptions hundred = TokenizerOptions.builder().maxLength(100).build();
    assertEquals(512, maxLength(none));
    assertEquals(100, maxLength(hundred));
    beside("tokenizer_config.json", "{\"model_max_length\": 1000000000000000019884624838656}");
    assertEquals(512, maxLength(none));
    beside("tokenizer_config.json", "{\"model_max_length\": 60}");
    assertEquals(60, maxLength(none));
    assertEquals(100, maxLength(hundred));
    beside("config.json", "{\"max_position_embeddings\": 40}");
    assertEquals(40, maxLength(none));
    assertEquals(40, maxLength(hundred));
    Expect.invalid(
        () -> maxLength(TokenizerOptions.builder().maxLength(4).build()), "is 4", "5 or");
    assertEquals(5, maxLength(TokenizerOptions.builder().maxLength(5).build()));
    Expect.invalid(() -> TokenizerOptions.builder().maxLength(0), "is 0");
  }

  @Test
  void cutsAtTheStartIfTheTokenizerConfigSaysSo() {
    vocabulary();
    beside("tokenizer_config.json", "{\"truncation_side\": \"left\", \"model_max_length\": 5}");
    assertEquals(List.of("[CLS]", "cat", "##s", "sat", "[SEP]"), tokens("the the cats sat"));
  }

  @Test
  void configurationsOfTheModelSayWhetherTextIsLowerCased() {
    vocabulary();
    assertEquals("cat", tokens("CAT").get(1));
    beside("model.json", "{\"doLowerCase\": false}");
    assertEquals("[UNK]", tokens("CAT").get(1));
    beside("bert_config.json", "{\"do_lower_case\": true}");
    assertEquals("cat", tokens("CAT").get(1));
    beside("tokenizer_config.json", "{\"do_lower_case\": false}");
    assertEquals("[UNK]", tokens("CAT").get(1));
    try (Tokenizer told =
        Tokenizer.load(folder, TokenizerOptions.builder().lowercase(true).build())) {
      assertEquals("cat", told.encode(TextPair.of("CAT")).tokens().get(1));
    }
    beside("tokenizer_config.json", "{\"do_lower_case\": \"no\"}");
    Expect.invalid(() -> tokens("CAT"), "tokenizer_config.json", "do_lower_case", "\"no\"");
  }

  @Test
  void readsTheAssetsOfASavedModel() {
    Expect.write(folder, "assets/vocab.txt", VOCABULARY);
    Expect.write(folder, "assets/model.json", "{\"doLowerCase\": false}");
    beside("config.json", "{\"max_position_embeddings\": 33}");
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertEquals(33, tokenizer.maxLength());
      assertEquals("[CLS] [UNK] cat [SEP]", tokenizer.encode(TextPair.of("The cat")).toString());
    }
  }

  @Test
  void toleratesWindowsLineEndsAndAByteOrderMark() {
    Expect.write(folder, "vocab.txt", "\ufeff" + VOCABULARY.replace("\n", "\r\n"));
    assertEquals(List.of("[CLS]", "the", "cat", "[SEP]"), tokens("the cat"));
  }

  @Test
  void specialTokensMayHaveOtherNames() {
    Expect.write(folder, "vocab.txt", "<unk>\n<s>\n</s>\n<mask>\ncat\n");
    beside(
        "tokenizer_config.json",
        "{\"unk_token\": \"<unk>\", \"cls_token\": {\"content\": \"<s>\"}}");
    beside("special_tokens_map.json", "{\"sep_token\": \"</s>\", \"mask_token\": \"<mask>\"}");
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertEquals(
          "<s> <unk> cat <mask> </s>", tokenizer.encode(TextPair.of("dog cat <mask>")).toString());
      assertEquals(3, tokenizer.maskTokenId());
      Expect.invalid(tokenizer::padTokenId, "\"[PAD]\"");
    }
  }

  @Test
  void addedTokensAreFoundInTexts() {
    vocabulary();
    beside("added_tokens.json", "{\"[E1]\": 9}");
    beside(
        "tokenizer_config.json",
        "{\"added_tokens_decoder\": {\"10\": {\"content\": \"[E2]\", \"special\": true}}}");
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertEquals(11, tokenizer.vocabSize());
      assertArrayEquals(
          new int[] {2, 9, 6, 10, 3}, tokenizer.encode(TextPair.of("[E1] cat [E2]")).ids());
    }
    beside("added_tokens.json", "{\"[E1]\": 12}");
    Expect.invalid(() -> Tokenizer.load(folder), "\"[E2]\" has the id 10, expected 9");
    beside("added_tokens.json", "{\"[E1]\": [9]}");
    Expect.invalid(() -> Tokenizer.load(folder), "\"[9]\", expected a number");
  }

  @Test
  void saysWhatIsWrongWithFiles() {
    Expect.failure(Kind.IO, () -> Tokenizer.load(folder.resolve("none")), "none", "not exist");
    Expect.invalid(() -> Tokenizer.load(folder), folder.toString(), "vocab.txt");
    Path words = Expect.write(folder, "words.txt", "a\nb\n");
    Expect.invalid(() -> Tokenizer.load(words), "words.txt", "\"[UNK]\"", "2 lines");
    Path bad = Expect.write(folder, "bad.json", "{\"model\": ");
    Expect.invalid(() -> Tokenizer.load(bad), "bad.json", "not JSON");
    Path noModel = Expect.write(folder, "no-model.json", "{}");
    Expect.invalid(() -> Tokenizer.load(noModel), "no-model.json", "vocabulary");
    Path strange =
        Expect.write(
            folder, "strange.json", "{\"model\": {\"type\": \"X\", \"vocab\": {\"a\": 0}}}");
    Expect.invalid(() -> Tokenizer.load(strange), "strange.json is not a tokenizer");
    Path negative = Expect.write(folder, "negative.json", "{\"model\": {\"vocab\": {\"a\": -1}}}");
    Expect.invalid(() -> Tokenizer.load(negative), "negative.json", "\"a\"", "-1");
    Path nameless =
        Expect.write(
            folder,
            "nameless.json",
            "{\"model\": {\"vocab\": {}}, \"added_tokens\": [{\"id\": 0}]}");
    Expect.invalid(() -> Tokenizer.load(nameless), "nameless.json", "{\"id\":0}", "content");
    Path binary = Expect.write(folder, "vocab.txt", new byte[] {'a', '\n', (byte) 0xff});
    Expect.invalid(() -> Tokenizer.load(binary), "vocab.txt:2", "0xff", "offset 2");
  }

  @Test
  void aVocabularyWithoutItsUnknownTokenIsNoticedBeforeAnUnknownWordIs() {
    String json =
        "{\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\","
            + " \"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 100,"
            + " \"vocab\": {\"a\": 0}}}";
    Expect.invalid(
        () -> Tokenizer.ofJson(json, "own", TokenizerOptions.defaults()), "own", "\"[UNK]\"");
    String known = json.replace("\"a\": 0", "\"a\": 0, \"[UNK]\": 1");
    try (Tokenizer tokenizer = Tokenizer.ofJson(known, "own", TokenizerOptions.defaults())) {
      assertArrayEquals(new int[] {0}, tokenizer.encode(TextPair.of("a")).ids());
      Expect.invalid(() -> tokenizer.encode(TextPair.of("")), "blank");
    }
    Expect.failure(
        Kind.UNSUPPORTED,
        () -> Tokenizer.ofJson(known, "own", TokenizerOptions.builder().lowercase(true).build()),
        "own",
        "BertNormalizer");
  }

  @Test
  void worksFromManyThreads() throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(8);
    try (Tokenizer tokenizer = load()) {
      List<Callable<String>> calls = new ArrayList<>();
      for (int i = 0; i < 400; i++) {
        String text = "the ".repeat(i % 50) + "cats";
        calls.add(() -> tokenizer.decode(tokenizer.encode(TextPair.of(text)).ids()));
      }
      List<Future<String>> results = pool.invokeAll(calls);
      for (int i = 0; i < results.size(); i++) {
        assertEquals("the ".repeat(i % 50) + "cats", results.get(i).get());
      }
    } finally {
      pool.shutdownNow();
    }
  }

  @Test
  void closingWaitsForCallsAndEndsTheRest() throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(4);
    try {
      for (int round = 0; round < 20; round++) {
        Tokenizer tokenizer = load();
        List<Future<Boolean>> loops = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
          loops.add(pool.submit(() -> encodeUntilClosed(tokenizer)));
        }
        Thread.sleep(5);
        tokenizer.close();
        tokenizer.close();
        for (Future<Boolean> loop : loops) {
          assertTrue(loop.get());
        }
        Expect.failure(Kind.CLOSED, () -> tokenizer.encode(TextPair.of("cat")), "closed");
        Expect.failure(Kind.CLOSED, () -> tokenizer.decode(5), "closed");
        assertEquals(9, tokenizer.vocabSize());
      }
    } finally {
      pool.shutdownNow();
    }
  }

  private static boolean encodeUntilClosed(Tokenizer tokenizer) {
    while (true) {
      try {
        tokenizer.encode(List.of(TextPair.of("the cats sat")));
      } catch (BertologyException e) {
        return e.kind() == Kind.CLOSED;
      }
    }
  }
}
