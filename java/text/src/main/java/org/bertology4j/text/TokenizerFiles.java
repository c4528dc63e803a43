package org.bertology4j.text;

import com.google.gson.JsonObject;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;
import org.bertology4j.BertologyException;

/**
 * Finds a tokenizer's files.
 *
 * @param main a tokenizer.json, a vocab.txt, or a vocab.json with a merges.txt beside it
 * @param folders where the files beside it may be: its folder, and for a TensorFlow SavedModel,
 *     whose vocabulary is in {@code assets}, the folder above
 */
record TokenizerFiles(Path main, List<Path> folders) {
  private static final String TOKENIZER_JSON = "tokenizer.json";
  private static final String VOCAB_TXT = "vocab.txt";
  private static final String VOCAB_JSON = "vocab.json";
  private static final String MERGES_TXT = "merges.txt";
  private static final String ASSETS = "assets";

  /** The tokenizer of a folder, or the one that is this file. */
  static TokenizerFiles find(Path path) {
    if (!Files.isDirectory(path)) {
      if (!Files.exists(path)) {
        throw BertologyException.io(null, "%s does not exist", path);
      }
      return of(path);
    }
    for (Path candidate :
        List.of(
            path.resolve(TOKENIZER_JSON),
            path.resolve(VOCAB_TXT),
            path.resolve(VOCAB_JSON),
            path.resolve(ASSETS).resolve(VOCAB_TXT))) {
      if (Files.isRegularFile(candidate)) {
        return of(candidate);
      }
    }
    throw BertologyException.invalid(
        "%s has no tokenizer: neither %s, %s, %s nor %s/%s is there",
        path, TOKENIZER_JSON, VOCAB_TXT, VOCAB_JSON, ASSETS, VOCAB_TXT);
  }

  private static TokenizerFiles of(Path main) {
    Set<Path> folders = new LinkedHashSet<>();
    Path folder = main.toAbsolutePath().getParent();
    folders.add(folder);
    if (folder.endsWith(ASSETS) && folder.getParent() != null) {
      folders.add(folder.getParent());
    }
    return new TokenizerFiles(main, List.copyOf(folders));
  }

  /** Whether the main file is a tokenizer.json. */
  boolean isJson() {
    return !isVocabularyOfPairs()
        && main.getFileName().toString().toLowerCase(Locale.ROOT).endsWith(".json");
  }

  /** Whether the main file is a vocab.json, the vocabulary of byte-pair encoding. */
  boolean isVocabularyOfPairs() {
    return main.getFileName().toString().equals(VOCAB_JSON);
  }

  /** The merges.txt beside a vocab.json. */
  Path merges() {
    Path merges = main.resolveSibling(MERGES_TXT);
    BertologyException.check(
        Files.isRegularFile(merges), "%s needs a %s beside it, which is missing", main, MERGES_TXT);
    return merges;
  }

  /** The JSON object of a file beside the main one, if there is such a file. */
  Optional<JsonObject> beside(String name) {
    return folders.stream()
        .map(folder -> folder.resolve(name))
        .filter(Files::isRegularFile)
        .findFirst()
        .map(file -> Json.parse(Utf8Reader.readAll(file), file.toString()));
  }
}
