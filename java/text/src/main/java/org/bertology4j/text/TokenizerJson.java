package org.bertology4j.text;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import org.bertology4j.BertologyException;

/** Makes, and changes, what a tokenizer.json says. */
final class TokenizerJson {
  private static final String BERT_NORMALIZER = "BertNormalizer";
  private static final String END_OF_WORD = "</w>";
  private static final String OPENAI_UNKNOWN = "<unk>";

  private TokenizerJson() {}

  /**
   * The tokenizer.json that Hugging Face makes of a vocab.txt.
   *
   * @param where what to call the vocabulary in messages
   */
  static JsonObject fromVocabulary(
      List<String> tokens, TokenizerConfig config, boolean lowercase, String where) {
    Map<String, Integer> ids = new HashMap<>();
    JsonObject vocabulary = new JsonObject();
    for (int id = 0; id < tokens.size(); id++) {
      ids.put(tokens.get(id), id);
      vocabulary.addProperty(tokens.get(id), id);
    }
    String unknown = config.name(SpecialToken.UNK);
    String start = config.name(SpecialToken.CLS);
    String separator = config.name(SpecialToken.SEP);
    for (String needed : List.of(unknown, start, separator)) {
      BertologyException.check(
          ids.containsKey(needed),
          "%s: no token \"%s\" among its %d lines, expected a BERT vocabulary",
          where,
          needed,
          tokens.size());
    }

    JsonObject normalizer = object("type", BERT_NORMALIZER);
    normalizer.addProperty("clean_text", true);
    normalizer.addProperty("handle_chinese_chars", config.splitChinese().orElse(true));
    normalizer.addProperty("strip_accents", config.stripAccents().orElse(null));
    normalizer.addProperty("lowercase", lowercase);

    JsonObject decoder = object("type", "WordPiece");
    decoder.addProperty("prefix", "##");
    decoder.addProperty("cleanup", true);

    JsonObject model = object("type", "WordPiece");
    model.addProperty("unk_token", unknown);
    model.addProperty("continuing_subword_prefix", "##");
    model.addProperty("max_input_chars_per_word", 100);
    model.add("vocab", vocabulary);

    JsonObject root = object("version", "1.0");
    root.add("truncation", JsonNull.INSTANCE);
    root.add("padding", JsonNull.INSTANCE);
    root.add("added_tokens", addedTokens(config, ids, tokens.size(), where));
    root.add("normalizer", normalizer);
    root.add("pre_tokenizer", object("type", "BertPreTokenizer"));
    root.add("post_processor", template(start, ids.get(start), separator, ids.get(separator)));
    root.add("decoder", decoder);
    root.add("model", model);
    return root;
  }

  /**
   * The tokenizer.json that Hugging Face makes of GPT-2's vocab.json and merges.txt: pairs of bytes
   * are merged.
   *
   * @param where what to call the vocabulary in messages
   */
  static JsonObject fromBytePairs(
      JsonObject vocabulary, JsonArray merges, TokenizerConfig config, String where) {
    JsonObject preTokenizer = byteLevel(true);
    preTokenizer.addProperty("add_prefix_space", config.addPrefixSpace());
    JsonObject root = ofPairs(vocabulary, merges, config, Optional.empty(), where);
    for (JsonElement token : root.getAsJsonArray("added_tokens")) {
      token.getAsJsonObject().addProperty("normalized", true); // by nothing
    }
    root.add("normalizer", JsonNull.INSTANCE);
    root.add("pre_tokenizer", preTokenizer);
    root.add("post_processor", byteLevel(false));
    root.add("decoder", byteLevel(true));
    return root;
  }

  private static JsonObject byteLevel(boolean trimOffsets) {
    JsonObject byteLevel = object("type", "ByteLevel");
    byteLevel.addProperty("add_prefix_space", true);
    byteLevel.addProperty("trim_offsets", trimOffsets);
    byteLevel.addProperty("use_regex", true);
    return byteLevel;
  }

  /**
   * The tokenizer.json that Hugging Face makes of OpenAI GPT's vocab.json and merges.txt:
   * lower-cased words, pairs of whose letters are merged, and whose ends are marked.
   *
   * @param where what to call the vocabulary in messages
   */
  static JsonObject fromLetterPairs(
      JsonObject vocabulary, JsonArray merges, TokenizerConfig config, String where) {
    String unknown = config.ownName(SpecialToken.UNK).orElse(OPENAI_UNKNOWN);
    BertologyException.check(
        vocabulary.has(unknown), "%s: no token \"%s\", expected OpenAI GPT's", where, unknown);
    JsonObject normalizer = object("type", BERT_NORMALIZER);
    normalizer.addProperty("clean_text", true);
    normalizer.addProperty("handle_chinese_chars", true);
    normalizer.add("strip_accents", JsonNull.INSTANCE);
    normalizer.addProperty("lowercase", true);
    JsonObject decoder = object("type", "BPEDecoder");
    decoder.addProperty("suffix", END_OF_WORD);
    JsonObject root = ofPairs(vocabulary, merges, config, Optional.of(unknown), where);
    JsonObject model = root.getAsJsonObject("model");
    model.addProperty("unk_token", unknown);
    model.add("continuing_subword_prefix", JsonNull.INSTANCE);
    model.addProperty("end_of_word_suffix", END_OF_WORD);
    root.add("normalizer", normalizer);
    root.add("pre_tokenizer", object("type", "BertPreTokenizer"));
    root.add("post_processor", JsonNull.INSTANCE);
    root.add("decoder", decoder);
    return root;
  }

  private static JsonObject ofPairs(
      JsonObject vocabulary,
      JsonArray merges,
      TokenizerConfig config,
      Optional<String> special,
      String where) {
    Map<String, Integer> ids = new HashMap<>();
    List<String> tokens = new ArrayList<>();
    vocabulary
        .asMap()
        .forEach(
            (token, id) -> {
              put(tokens, token, id, where);
              ids.put(token, id.getAsInt());
            });
    JsonObject model = object("type", "BPE");
    model.add("dropout", JsonNull.INSTANCE);
    model.add("unk_token", JsonNull.INSTANCE);
    model.addProperty("continuing_subword_prefix", "");
    model.addProperty("end_of_word_suffix", "");
    model.addProperty("fuse_unk", false);
    model.addProperty("byte_fallback", false);
    model.addProperty("ignore_merges", false);
    model.add("vocab", vocabulary);
    model.add("merges", merges);
    JsonObject root = object("version", "1.0");
    root.add("truncation", JsonNull.INSTANCE);
    root.add("padding", JsonNull.INSTANCE);
    JsonArray added = addedTokens(config, ids, tokens.size(), where);
    special.ifPresent(
        token -> {
          JsonObject entry = new JsonObject();
          entry.add("id", vocabulary.get(token));
          addedToken(token, true).asMap().forEach(entry::add);
          if (!added.contains(entry)) {
            added.add(entry);
          }
        });
    root.add("added_tokens", added);
    root.add("model", model);
    return root;
  }

  /** Whether a vocabulary marks the ends of words, as OpenAI GPT's does. */
  static boolean marksEndsOfWords(JsonObject vocabulary) {
    return vocabulary.keySet().stream().anyMatch(token -> token.endsWith(END_OF_WORD));
  }

  /** Whether the tokenizer merges pairs, as those of models without segments do. */
  static boolean mergesPairs(JsonObject root) {
    return root.get("model") instanceof JsonObject model
        && model.get("type") instanceof JsonPrimitive type
        && type.getAsString().equals("BPE");
  }

  private static JsonArray addedTokens(
      TokenizerConfig config, Map<String, Integer> ids, int size, String where) {
    Map<Integer, JsonObject> added = new TreeMap<>(config.addedTokens());
    for (SpecialToken token : SpecialToken.values()) {
      Integer id = ids.get(config.name(token));
      if (id != null) {
        added.putIfAbsent(id, addedToken(config.name(token), true));
      }
    }
    JsonArray list = new JsonArray();
    int next = size;
    for (Map.Entry<Integer, JsonObject> entry : added.entrySet()) {
      String content = entry.getValue().get("content").getAsString();
      int expected = ids.containsKey(content) ? ids.get(content) : next++;
      BertologyException.check(
          entry.getKey() == expected,
          "%s: the added token \"%s\" has the id %d, expected %d",
          where,
          content,
          entry.getKey(),
          expected);
      JsonObject token = new JsonObject();
      token.addProperty("id", entry.getKey());
      entry.getValue().asMap().forEach(token::add);
      list.add(token);
    }
    return list;
  }

  /** A token that is found in a text as it is. */
  static JsonObject addedToken(String content, boolean special) {
    JsonObject token = object("content", content);
    token.addProperty("single_word", false);
    token.addProperty("lstrip", false);
    token.addProperty("rstrip", false);
    token.addProperty("normalized", !special);
    token.addProperty("special", special);
    return token;
  }

  private static JsonObject template(String start, int startId, String separator, int separatorId) {
    JsonArray single = new JsonArray();
    single.add(place("SpecialToken", start, 0));
    single.add(place("Sequence", "A", 0));
    single.add(place("SpecialToken", separator, 0));
    JsonArray pair = single.deepCopy();
    pair.add(place("Sequence", "B", 1));
    pair.add(place("SpecialToken", separator, 1));
    JsonObject tokens = new JsonObject();
    tokens.add(start, templateToken(start, startId));
    tokens.add(separator, templateToken(separator, separatorId));

    JsonObject template = object("type", "TemplateProcessing");
    template.add("single", single);
    template.add("pair", pair);
    template.add("special_tokens", tokens);
    return template;
  }

  private static JsonObject place(String kind, String id, int type) {
    JsonObject what = object("id", id);
    what.addProperty("type_id", type);
    JsonObject place = new JsonObject();
    place.add(kind, what);
    return place;
  }

  private static JsonObject templateToken(String token, int id) {
    JsonArray ids = new JsonArray();
    ids.add(id);
    JsonArray tokens = new JsonArray();
    tokens.add(token);
    JsonObject entry = object("id", token);
    entry.add("ids", ids);
    entry.add("tokens", tokens);
    return entry;
  }

  private static JsonObject object(String key, String value) {
    JsonObject object = new JsonObject();
    object.addProperty(key, value);
    return object;
  }

  /**
   * Whether lower-casing would change no token but those in brackets. (Some upper-case letters have
   * no lower-case form: BERT's uncased vocabulary has ℝ.)
   */
  static boolean looksUncased(List<String> tokens) {
    return tokens.stream()
        .filter(token -> !(token.startsWith("[") && token.endsWith("]")))
        .allMatch(token -> token.codePoints().allMatch(c -> Character.toLowerCase(c) == c));
  }

  /** A copy that cuts nothing and pads nothing, whatever was baked in. */
  static JsonObject withoutLimits(JsonObject root) {
    JsonObject copy = root.deepCopy();
    copy.add("truncation", JsonNull.INSTANCE);
    copy.add("padding", JsonNull.INSTANCE);
    return copy;
  }

  /** A copy that cuts examples to a length, the longer text of a pair first. */
  static JsonObject withMaxLength(JsonObject root, int maxLength, boolean left) {
    JsonObject truncation = object("direction", left ? "Left" : "Right");
    truncation.addProperty("max_length", maxLength);
    truncation.addProperty("strategy", "LongestFirst");
    truncation.addProperty("stride", 0);
    JsonObject copy = root.deepCopy();
    copy.add("truncation", truncation);
    return copy;
  }

  /**
   * Changes what the normalizer does, where it is said. As transformers does, a tokenizer_config
   * goes before the tokenizer.json beside it; options go before both.
   */
  static void override(
      JsonObject root, TokenizerConfig config, TokenizerOptions options, String where) {
    boolean bert =
        root.get("normalizer") instanceof JsonObject normalizer
            && normalizer.get("type") instanceof JsonPrimitive type
            && type.getAsString().equals(BERT_NORMALIZER);
    boolean asked =
        options.lowercase().isPresent()
            || options.stripAccents().isPresent()
            || options.splitChinese().isPresent();
    if (!bert) {
      if (asked) {
        throw new BertologyException(
            BertologyException.Kind.UNSUPPORTED,
            where
                + ": lower-casing, accents and Chinese characters can only be set for a"
                + " BertNormalizer, this tokenizer has another");
      }
      return;
    }
    JsonObject normalizer = root.getAsJsonObject("normalizer");
    set(normalizer, "lowercase", options.lowercase().or(config::lowercase));
    set(normalizer, "strip_accents", options.stripAccents().or(config::stripAccents));
    set(normalizer, "handle_chinese_chars", options.splitChinese().or(config::splitChinese));
  }

  private static void set(JsonObject normalizer, String key, Optional<Boolean> value) {
    value.ifPresent(wanted -> normalizer.addProperty(key, wanted));
  }

  /**
   * The tokens by their ids; an empty text where there is none.
   *
   * @param where what to call the tokenizer in messages
   */
  static List<String> tokens(JsonObject root, String where) {
    JsonElement vocabulary =
        root.get("model") instanceof JsonObject model ? model.get("vocab") : JsonNull.INSTANCE;
    BertologyException.check(
        vocabulary instanceof JsonObject,
        "%s: expected a tokenizer.json whose model has a vocabulary of tokens and their ids",
        where);
    List<String> tokens = new ArrayList<>();
    ((JsonObject) vocabulary).asMap().forEach((token, id) -> put(tokens, token, id, where));
    if (root.get("added_tokens") instanceof JsonArray added) {
      for (JsonElement token : added) {
        BertologyException.check(
            token instanceof JsonObject object
                && object.get("content") instanceof JsonPrimitive content
                && content.isString(),
            "%s: an added token is %s, expected an object with its content and id",
            where,
            token);
        JsonObject object = token.getAsJsonObject();
        put(tokens, object.get("content").getAsString(), object.get("id"), where);
      }
    }
    return tokens;
  }

  private static void put(List<String> tokens, String token, JsonElement id, String where) {
    BertologyException.check(
        id instanceof JsonPrimitive number
            && number.isNumber()
            && number.getAsInt() >= 0
            && number.getAsInt() < 1 << 24,
        "%s: the id of the token \"%s\" is %s, expected a number from 0 to %d",
        where,
        token,
        id,
        (1 << 24) - 1);
    while (tokens.size() <= id.getAsInt()) {
      tokens.add("");
    }
    tokens.set(id.getAsInt(), token);
  }
}
