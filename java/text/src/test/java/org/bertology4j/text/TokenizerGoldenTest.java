package org.bertology4j.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.reflect.TypeToken;
import java.io.IOException;
import java.io.Reader;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.bertology4j.Batch;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The same tokens as transformers' BertTokenizerFast, GPT2TokenizerFast and OpenAIGPTTokenizerFast;
 * tokenizer_golden.py and bpe_golden.py made what is expected.
 */
class TokenizerGoldenTest {
  /** An encoding by transformers. */
  record Case(
      int maxLength,
      String first,
      String second,
      int[] ids,
      int[] typeIds,
      List<String> tokens,
      int[] textIds,
      int[] wordIds,
      int[] starts,
      int[] ends,
      boolean truncated,
      String decoded,
      String decodedAll) {
    TextPair text() {
      return new TextPair(first, Optional.ofNullable(second));
    }
  }

  record Variant(String vocabulary, JsonObject config, List<Case> cases) {}

  private static Map<String, Variant> golden;

  @TempDir private Path folder;

  @BeforeAll
  static void read() throws IOException {
    golden = new HashMap<>();
    for (String file : List.of("golden.json", "bpe_golden.json")) {
      try (Reader reader = Expect.reader("tokenizer/" + file)) {
        golden.putAll(
            new Gson().fromJson(reader, new TypeToken<Map<String, Variant>>() {}.getType()));
      }
    }
    assertEquals(8, golden.size());
  }

  private void copy(String vocabulary, String file) {
    Expect.write(folder, file, Expect.resource("tokenizer/" + vocabulary + "/" + file));
  }

  private void check(List<Case> cases, Path path) {
    assertTrue(cases.size() >= 40);
    Map<Integer, Tokenizer> tokenizers = new HashMap<>();
    for (Case expected : cases) {
      Tokenizer tokenizer =
          tokenizers.computeIfAbsent(
              expected.maxLength(),
              length -> Tokenizer.load(path, TokenizerOptions.builder().maxLength(length).build()));
      String text = expected.text() + ", at most " + expected.maxLength();
      Encoding encoding = tokenizer.encode(expected.text());
      assertEquals(expected.tokens(), encoding.tokens(), text);
      assertArrayEquals(expected.ids(), encoding.ids(), text);
      assertArrayEquals(expected.typeIds(), encoding.tokenTypeIds(), text);
      assertArrayEquals(expected.textIds(), encoding.textIds(), text);
      assertArrayEquals(expected.wordIds(), encoding.wordIds(), text);
      assertArrayEquals(expected.starts(), encoding.starts(), text);
      assertArrayEquals(expected.ends(), encoding.ends(), text);
      assertEquals(expected.truncated(), encoding.truncated(), text);
      assertEquals(expected.decoded(), tokenizer.decode(expected.ids()), text);
      assertEquals(expected.decodedAll(), tokenizer.decode(expected.ids(), false), text);
      Batch batch = tokenizer.encode(List.of(expected.text()));
      assertArrayEquals(expected.ids(), batch.inputIds(0), text);
      assertArrayEquals(expected.typeIds(), batch.tokenTypeIds(0), text);
    }
    tokenizers.values().forEach(Tokenizer::close);
  }

  @ParameterizedTest
  @ValueSource(strings = {"uncased", "cased", "uncased-accents", "uncased-chinese", "cased-strip"})
  void vocabularyWithTokenizerConfig(String variant) {
    Variant expected = golden.get(variant);
    copy(expected.vocabulary(), "vocab.txt");
    Expect.write(folder, "tokenizer_config.json", expected.config().toString());
    check(expected.cases(), folder);
  }

  @ParameterizedTest
  @ValueSource(strings = {"uncased", "cased", "uncased-accents", "uncased-chinese", "cased-strip"})
  void tokenizerJsonWithTokenizerConfig(String variant) {
    Variant expected = golden.get(variant);
    copy(expected.vocabulary(), "tokenizer.json");
    Expect.write(folder, "tokenizer_config.json", expected.config().toString());
    check(expected.cases(), folder);
  }

  /** Its own normalizer counts, but not the cutting and padding that are baked in. */
  @ParameterizedTest
  @ValueSource(strings = {"uncased", "cased"})
  void tokenizerJsonAlone(String variant) {
    copy(variant, "tokenizer.json");
    JsonObject json =
        JsonParser.parseReader(Expect.reader("tokenizer/" + variant + "/tokenizer.json"))
            .getAsJsonObject();
    assertEquals(4, json.getAsJsonObject("truncation").get("max_length").getAsInt());
    assertTrue(json.get("padding").isJsonObject());
    check(golden.get(variant).cases(), folder.resolve("tokenizer.json"));
  }

  /** Which model a vocabulary of pairs is for can be seen by its ends of words. */
  @ParameterizedTest
  @ValueSource(strings = {"gpt2", "gpt2-prefix", "openai-gpt"})
  void pairsWithTokenizerConfig(String variant) {
    Variant expected = golden.get(variant);
    copy(expected.vocabulary(), "vocab.json");
    copy(expected.vocabulary(), "merges.txt");
    check(expected.config(), expected.cases());
  }

  private void check(JsonObject config, List<Case> cases) {
    Expect.write(folder, "tokenizer_config.json", config.toString());
    check(cases, folder);
  }

  /** Or by what the configurations say, whatever the vocabulary is like. */
  @Test
  void configurationsTellWhosePairsTheyAre() {
    copy("openai-gpt", "vocab.json");
    copy("openai-gpt", "merges.txt");
    Expect.write(folder, "config.json", "{\"model_type\": \"openai-gpt\", \"n_positions\": 17}");
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertTrue(tokenizer.toJson().contains("BPEDecoder"));
      assertEquals(17, tokenizer.maxLength());
    }
    Expect.write(folder, "tokenizer_config.json", "{\"tokenizer_class\": \"GPT2Tokenizer\"}");
    try (Tokenizer tokenizer = Tokenizer.load(folder.resolve("vocab.json"))) {
      assertTrue(tokenizer.toJson().contains("ByteLevel"));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"gpt2", "openai-gpt"})
  void tokenizerJsonOfPairs(String variant) {
    copy(variant, "tokenizer.json");
    check(golden.get(variant).cases(), folder);
  }

  @Test
  void textsOfGpt2EndWithOneToken() {
    copy("gpt2", "vocab.json");
    copy("gpt2", "merges.txt");
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertEquals(420, tokenizer.bosTokenId());
      assertEquals(420, tokenizer.eosTokenId());
    }
  }

  @Test
  void pairsThatAreWrong() {
    copy("gpt2", "vocab.json");
    Expect.invalid(() -> Tokenizer.load(folder), "vocab.json needs a merges.txt", "missing");
    Expect.write(folder, "merges.txt", "#version: 0.2\na b\na b c\n");
    Expect.invalid(() -> Tokenizer.load(folder), "merges.txt:3: \"a b c\"", "two tokens");
    Expect.write(folder, "merges.txt", "a \n");
    Expect.invalid(() -> Tokenizer.load(folder), "merges.txt:1", "two tokens");
    Expect.write(folder, "merges.txt", "qqqqqqq zzzzzz\n");
    Expect.invalid(() -> Tokenizer.load(folder), "vocab.json is not a tokenizer");
    Expect.write(folder, "vocab.json", "{\"a\": 0, \"b</w>\": 1}");
    Expect.write(folder, "merges.txt", "");
    Expect.invalid(() -> Tokenizer.load(folder), "no token \"<unk>\", expected OpenAI GPT's");
    Expect.write(folder, "vocab.json", "{\"a\": \"zero\"}");
    Expect.invalid(() -> Tokenizer.load(folder), "the id of the token \"a\" is \"zero\"");
    Expect.write(folder, "vocab.json", "[1]");
    Expect.invalid(() -> Tokenizer.load(folder), "vocab.json");
  }

  /** Whether a vocabulary is for lower-cased text can be seen by its letters. */
  @ParameterizedTest
  @ValueSource(strings = {"uncased", "cased"})
  void vocabularyAlone(String variant) {
    copy(variant, "vocab.txt");
    check(golden.get(variant).cases(), folder.resolve("vocab.txt"));
  }

  @Test
  void vocabularyWithOptions() {
    copy("cased", "vocab.txt");
    TokenizerOptions options =
        TokenizerOptions.builder().lowercase(false).stripAccents(true).splitChinese(true).build();
    try (Tokenizer tokenizer = Tokenizer.load(folder, options)) {
      for (Case expected : golden.get("cased-strip").cases()) {
        assertArrayEquals(expected.ids(), tokenizer.encode(expected.text()).ids());
      }
    }
  }

  /** What is built of a vocabulary is what transformers builds of it. */
  @ParameterizedTest
  @CsvSource({"uncased, true", "cased, false"})
  void sameTokenizerJson(String variant, boolean lowercase) {
    copy(variant, "vocab.txt");
    JsonObject expected =
        JsonParser.parseReader(Expect.reader("tokenizer/" + variant + "/tokenizer.json"))
            .getAsJsonObject();
    expected.add("truncation", JsonNull.INSTANCE);
    expected.add("padding", JsonNull.INSTANCE);
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertEquals(expected, JsonParser.parseString(tokenizer.toJson()));
    }
    assertEquals(lowercase, expected.getAsJsonObject("normalizer").get("lowercase").getAsBoolean());
  }

  @ParameterizedTest
  @ValueSource(strings = {"gpt2", "openai-gpt"})
  void sameTokenizerJsonOfPairs(String variant) {
    copy(variant, "vocab.json");
    copy(variant, "merges.txt");
    JsonObject expected =
        JsonParser.parseReader(Expect.reader("tokenizer/" + variant + "/tokenizer.json"))
            .getAsJsonObject();
    expected.add("truncation", JsonNull.INSTANCE);
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertEquals(expected, JsonParser.parseString(tokenizer.toJson()));
    }
  }

  @Test
  void ownJsonMakesTheSameTokenizer() {
    copy("uncased", "vocab.txt");
    try (Tokenizer tokenizer = Tokenizer.load(folder);
        Tokenizer again =
            Tokenizer.ofJson(tokenizer.toJson(), "again", TokenizerOptions.defaults())) {
      for (Case expected : golden.get("uncased").cases()) {
        if (expected.maxLength() == 512) {
          assertArrayEquals(expected.ids(), again.encode(expected.text()).ids());
        }
      }
      assertEquals(tokenizer.toJson(), again.toJson());
    }
  }
}
