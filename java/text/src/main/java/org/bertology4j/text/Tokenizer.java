package org.bertology4j.text;

import ai.djl.huggingface.tokenizers.jni.CharSpan;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.bertology4j.Batch;
import org.bertology4j.BertologyException;

/**
 * Turns texts into token ids and back, as Hugging Face's fast tokenizers do: it is their library
 * that does it.
 *
 * <p>Examples are never padded: a {@link Batch} needs no padding. They are cut to {@link
 * #maxLength()} tokens, the longer text of a pair first. Padding and truncation that a
 * tokenizer.json has baked in do not count.
 *
 * <p>One tokenizer may be used from many threads at once.
 */
public final class Tokenizer implements AutoCloseable {
  private static final int USUAL_POSITIONS = 512;

  /** Characters that the native side takes at a time: it keeps much of each token. */
  private static final int PART_LENGTH = 1 << 18;

  private final String where;
  private final String json;
  private final NativeTokenizer tokenizer;
  private final List<String> tokens;
  private final Map<String, Integer> ids = new HashMap<>();
  private final Map<SpecialToken, String> specialTokens = new EnumMap<>(SpecialToken.class);
  private final boolean hasTypes;
  private final boolean cleanUpSpaces;
  private final int maxLength;
  private final int addedToText;
  private final int addedToPair;

  private Tokenizer(
      JsonObject json, TokenizerConfig config, TokenizerOptions options, String where) {
    this.where = where;
    this.json = json.toString();
    tokens = List.copyOf(TokenizerJson.tokens(json, where));
    for (int id = 0; id < tokens.size(); id++) {
      ids.put(tokens.get(id), id);
    }
    ids.remove(""); // Of ids that have no token.
    checkUnknownToken(json.getAsJsonObject("model"));
    for (SpecialToken token : SpecialToken.values()) {
      specialTokens.put(token, config.name(token));
    }
    hasTypes = !TokenizerJson.mergesPairs(json);
    // GPT-2's text is what it is; BERT's and OpenAI GPT's decoders put spaces between all words.
    cleanUpSpaces = config.cleanUpSpaces().orElse(hasTypes);
    maxLength = maxLength(config, options);
    JsonObject limited = TokenizerJson.withMaxLength(json, maxLength, config.truncateLeft());
    tokenizer = new NativeTokenizer(limited.toString(), where);
    try {
      addedToText = tokenizer.encode(TextPair.of(""), NativeTokenizer.Tokens::ids).length;
      addedToPair = tokenizer.encode(TextPair.of("", ""), NativeTokenizer.Tokens::ids).length;
      BertologyException.check(
          maxLength >= addedToPair + 2,
          "%s: maxLength is %d, expected %d or more: one token of each text of a pair and %d more",
          where,
          maxLength,
          addedToPair + 2,
          addedToPair);
    } catch (BertologyException e) {
      tokenizer.close();
      throw e;
    }
  }

  /** The native side would only notice when it meets an unknown word. */
  private void checkUnknownToken(JsonObject model) {
    if (model.get("unk_token") instanceof JsonPrimitive unknown) {
      BertologyException.check(
          ids.containsKey(unknown.getAsString()),
          "%s: the token for unknown words, \"%s\", is not in the vocabulary",
          where,
          unknown.getAsString());
    }
  }

  private static int maxLength(TokenizerConfig config, TokenizerOptions options) {
    int positions = config.maxPositions().orElse(Integer.MAX_VALUE);
    if (options.maxLength().isPresent()) {
      return Math.min(options.maxLength().getAsInt(), positions);
    }
    int usual = Math.min(config.modelMaxLength().orElse(Integer.MAX_VALUE), positions);
    return usual == Integer.MAX_VALUE ? USUAL_POSITIONS : usual;
  }

  /** {@link #load(Path, TokenizerOptions)} with everything as the files say. */
  public static Tokenizer load(Path folderOrFile) {
    return load(folderOrFile, TokenizerOptions.defaults());
  }

  /**
   * Loads a tokenizer from a file or from a folder that has it: a tokenizer.json; a BERT
   * vocabulary, {@code vocab.txt}, one token a line, which a TensorFlow SavedModel has as {@code
   * assets/vocab.txt}; or the {@code vocab.json} and {@code merges.txt} of GPT-2 or OpenAI GPT.
   * Which of these two it is, tokenizer_config.json ({@code tokenizer_class}) or the model's
   * config.json tell, else whether the vocabulary marks the ends of words.
   *
   * <p>A tokenizer_config.json beside it is heeded. A vocabulary is for lower-cased text if the
   * options say so, else tokenizer_config.json ({@code do_lower_case}), else the model's
   * config.json or bert_config.json ({@code do_lower_case}), else a model.json ({@code
   * doLowerCase}), else if lower-casing would change no token of it, those in brackets aside.
   */
  public static Tokenizer load(Path folderOrFile, TokenizerOptions options) {
    TokenizerFiles files = TokenizerFiles.find(folderOrFile);
    TokenizerConfig config = TokenizerConfig.read(files);
    String where = files.main().toString();
    JsonObject json;
    if (files.isJson()) {
      json = Json.parse(Utf8Reader.readAll(files.main()), where);
    } else if (files.isVocabularyOfPairs()) {
      json = fromPairs(files, config);
    } else {
      json = fromVocabulary(files.main(), config, options);
    }
    return of(json, config, options, where);
  }

  /**
   * A tokenizer from the text of a tokenizer.json, such as {@link #toJson()} gives.
   *
   * @param name what to call it in messages
   */
  public static Tokenizer ofJson(String json, String name, TokenizerOptions options) {
    return of(Json.parse(json, name), TokenizerConfig.none(), options, name);
  }

  private static Tokenizer of(
      JsonObject json, TokenizerConfig config, TokenizerOptions options, String where) {
    JsonObject own = TokenizerJson.withoutLimits(json);
    TokenizerJson.override(own, config, options, where);
    return new Tokenizer(own, config, options, where);
  }

  private static JsonObject fromVocabulary(
      Path file, TokenizerConfig config, TokenizerOptions options) {
    List<String> tokens = Utf8Reader.readAll(file).lines().toList();
    boolean lowercase =
        options
            .lowercase()
            .or(config::lowercase)
            .or(config::modelLowercase)
            .orElseGet(() -> TokenizerJson.looksUncased(tokens));
    return TokenizerJson.fromVocabulary(tokens, config, lowercase, file.toString());
  }

  private static JsonObject fromPairs(TokenizerFiles files, TokenizerConfig config) {
    String where = files.main().toString();
    JsonObject vocabulary = Json.parse(Utf8Reader.readAll(files.main()), where);
    JsonArray merges = readMerges(files.merges());
    return config.openAiGpt().orElseGet(() -> TokenizerJson.marksEndsOfWords(vocabulary))
        ? TokenizerJson.fromLetterPairs(vocabulary, merges, config, where)
        : TokenizerJson.fromBytePairs(vocabulary, merges, config, where);
  }

  /** Two tokens a line; the first line may tell a version. */
  private static JsonArray readMerges(Path file) {
    JsonArray merges = new JsonArray();
    int number = 0;
    for (String line : Utf8Reader.readAll(file).lines().toList()) {
      number++;
      if (line.isEmpty() || (number == 1 && line.startsWith("#version"))) {
        continue;
      }
      String[] pair = line.split(" ", -1);
      BertologyException.check(
          pair.length == 2 && !pair[0].isEmpty() && !pair[1].isEmpty(),
          "%s:%d: \"%s\", expected two tokens with a space between them",
          file,
          number,
          line);
      JsonArray merge = new JsonArray();
      merge.add(pair[0]);
      merge.add(pair[1]);
      merges.add(merge);
    }
    return merges;
  }

  /** The token ids of texts, as the model takes them. Fails if one has no tokens of its own. */
  public Batch encode(List<TextPair> texts) {
    Batch.Builder batch = Batch.builder();
    for (int i = 0; i < texts.size(); i++) {
      Ids found = ids(texts.get(i), "example " + i);
      batch.add(found.ids(), found.typeIds());
    }
    return batch.build();
  }

  /**
   * What a model takes of an example.
   *
   * @param cut whether the text has more
   */
  record Ids(int[] ids, int[] typeIds, boolean cut) {}

  /**
   * The ids of a text.
   *
   * @param what what to call the text in messages
   */
  Ids ids(TextPair text, String what) {
    Ids found =
        tokenizer.encode(
            text, tokens -> new Ids(tokens.ids(), typeIds(tokens), tokens.truncated()));
    checkNotEmpty(found.ids().length, text, what);
    return found;
  }

  /** All 0 for a model without segments, which the native side does not know. */
  private int[] typeIds(NativeTokenizer.Tokens found) {
    int[] types = found.typeIds();
    return hasTypes ? types : new int[types.length];
  }

  /** The ids of a text of any length: nothing is cut, and no special tokens are added. */
  public int[] wholeText(String text) {
    List<int[]> parts = new ArrayList<>();
    try (NativeTokenizer uncut = new NativeTokenizer(json, where)) {
      int start = 0;
      while (start < text.length()) {
        int end = endOfPart(text, start);
        parts.add(uncut.ids(text.substring(start, end)));
        start = end;
      }
    }
    return parts.stream().flatMapToInt(Arrays::stream).toArray();
  }

  /** Where a text of any length may be divided: between lines that do not begin with a space. */
  private static int endOfPart(String text, int start) {
    int end = text.indexOf('\n', Math.min(text.length(), start + PART_LENGTH)) + 1;
    while (end > 0 && end < text.length() && Character.isWhitespace(text.charAt(end))) {
      end = text.indexOf('\n', end) + 1;
    }
    return end == 0 ? text.length() : end;
  }

  /** A text as tokens, with what is known of each. Fails if it has no tokens of its own. */
  public Encoding encode(TextPair text) {
    return tokenizer.encode(
        text,
        found -> {
          int[] tokenIds = found.ids();
          checkNotEmpty(tokenIds.length, text, "the example");
          int[] textIds = found.textIds();
          int[][] spans = spans(found.spans(), textIds, text);
          return new Encoding(
              tokenIds,
              typeIds(found),
              Arrays.stream(tokenIds).mapToObj(tokens::get).toList(),
              textIds,
              found.wordIds(),
              spans[0],
              spans[1],
              found.truncated());
        });
  }

  private void checkNotEmpty(int length, TextPair text, String what) {
    BertologyException.check(
        length > (text.second().isPresent() ? addedToPair : addedToText),
        "%s has no tokens: %s",
        what,
        text.isBlank() ? "its text is blank" : "nothing of its text is a character for " + where);
  }

  /** Starts and ends; the native side counts code points, strings count UTF-16 units. */
  private static int[][] spans(CharSpan[] spans, int[] textIds, TextPair text) {
    CodePoints[] places = {new CodePoints(text.first()), new CodePoints(text.second().orElse(""))};
    int[] starts = new int[spans.length];
    int[] ends = new int[spans.length];
    for (int i = 0; i < spans.length; i++) {
      boolean ofText = spans[i] != null && textIds[i] >= 0;
      starts[i] = ofText ? places[textIds[i]].index(spans[i].getStart()) : -1;
      ends[i] = ofText ? places[textIds[i]].index(spans[i].getEnd()) : -1;
    }
    return new int[][] {starts, ends};
  }

  /** The text of ids, without special tokens. */
  public String decode(int... tokenIds) {
    return decode(tokenIds, true);
  }

  /** The text of ids, with or without special tokens. */
  public String decode(int[] tokenIds, boolean skipSpecialTokens) {
    for (int id : tokenIds) {
      checkId(id);
    }
    String text = tokenizer.decode(tokenIds, skipSpecialTokens);
    return cleanUpSpaces ? withoutEnglishSpaces(text) : text;
  }

  /** What transformers does behind the native decoder, which sees one token at a time. */
  private static String withoutEnglishSpaces(String text) {
    return text.replace(" .", ".")
        .replace(" ?", "?")
        .replace(" !", "!")
        .replace(" ,", ",")
        .replace(" ' ", "'")
        .replace(" n't", "n't")
        .replace(" 'm", "'m")
        .replace(" 's", "'s")
        .replace(" 've", "'ve")
        .replace(" 're", "'re");
  }

  /** Number of ids: all are lower. */
  public int vocabSize() {
    return tokens.size();
  }

  /** Whether there is such a token. */
  public boolean hasToken(String token) {
    return ids.containsKey(Objects.requireNonNull(token, "token"));
  }

  /** The id of a token. Fails if there is no such token. */
  public int idOf(String token) {
    BertologyException.check(hasToken(token), "%s has no token \"%s\"", where, token);
    return ids.get(token);
  }

  /** The token of an id. */
  public String tokenOf(int id) {
    checkId(id);
    return tokens.get(id);
  }

  private void checkId(int id) {
    BertologyException.check(
        id >= 0 && id < tokens.size(),
        "%s has no token with the id %d: it has 0 to %d",
        where,
        id,
        tokens.size() - 1);
  }

  /** The most tokens of an example, special tokens included. */
  public int maxLength() {
    return maxLength;
  }

  /** The id of the token that stands for an unknown word, {@code [UNK]}. */
  public int unkTokenId() {
    return special(SpecialToken.UNK);
  }

  /** The id of the token that an example starts with, {@code [CLS]}. */
  public int clsTokenId() {
    return special(SpecialToken.CLS);
  }

  /** The id of the token that a text ends with, {@code [SEP]}. */
  public int sepTokenId() {
    return special(SpecialToken.SEP);
  }

  /** The id of the token that stands for nothing, {@code [PAD]}. */
  public int padTokenId() {
    return special(SpecialToken.PAD);
  }

  /** The id of the token that stands for one to be predicted, {@code [MASK]}. */
  public int maskTokenId() {
    return special(SpecialToken.MASK);
  }

  /** The id of the token that a text of GPT-2 starts with, {@code <|endoftext|>}. */
  public int bosTokenId() {
    return special(SpecialToken.BOS);
  }

  /** The id of the token that a text of GPT-2 ends with, {@code <|endoftext|>}. */
  public int eosTokenId() {
    return special(SpecialToken.EOS);
  }

  private int special(SpecialToken token) {
    return idOf(specialTokens.get(token));
  }

  /** The tokenizer as a tokenizer.json that neither cuts nor pads. */
  public String toJson() {
    return json;
  }

  /** Frees the native memory, when no thread uses it any more. Does nothing the second time. */
  @Override
  public void close() {
    tokenizer.close();
  }

  /** Such as {@code tokenizer of folder/vocab.txt, 30522 tokens}. */
  @Override
  public String toString() {
    return String.format("tokenizer of %s, %d tokens", where, tokens.size());
  }
}
