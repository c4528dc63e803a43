package org.bertology4j.cli;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.bertology4j.BertologyException;
import org.bertology4j.HeadImportance;
import org.bertology4j.ModelConfig;
import org.bertology4j.checkpoint.AtomicFiles;

/**
 * The files of a run. Nothing of an earlier run in the same folder stays beside them, and nothing
 * of it is touched before there is a first result. results.json is written anew after each stage,
 * so that an interrupted run keeps what it had finished.
 */
final class Results {
  static final String JSON = "results.json";
  static final String IMPORTANCE = "head_importance.npy";
  static final String ENTROPY = "attn_entropy.npy";
  static final String RELATIVE_ENTROPY = "attn_entropy_relative.npy";
  static final String MASK = "head_mask.npy";
  static final String REPORT = "report.html";
  static final String SCORES = "head_scores.npy";
  static final String CHANGES = "head_changes.npy";
  static final String SHAPLEY = "head_shapley.npy";
  static final String SHAPLEY_ERRORS = "head_shapley_errors.npy";
  static final String TABLE = "sweep.csv";

  /** The first to go: what it says is not true without the others. */
  private static final List<String> ALL =
      List.of(
          JSON,
          IMPORTANCE,
          ENTROPY,
          RELATIVE_ENTROPY,
          MASK,
          REPORT,
          SCORES,
          CHANGES,
          SHAPLEY,
          SHAPLEY_ERRORS,
          TABLE);

  private static final Gson GSON =
      new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().serializeNulls().create();

  private final Path folder;
  private final Map<String, Object> entries = new LinkedHashMap<>();
  private boolean begun;

  /** Results in a folder, which is made when there are some. */
  Results(Path folder) {
    Outputs.checkFolder(folder);
    this.folder = folder;
  }

  /** Sets an entry of results.json. */
  Results put(String name, Object value) {
    entries.put(name, finite(value));
    return this;
  }

  /** JSON knows no numbers that are not finite: they become null. */
  private static Object finite(Object value) {
    if (value instanceof Double number) {
      return Double.isFinite(number) ? number : null;
    }
    if (value instanceof Map<?, ?> map) {
      Map<Object, Object> checked = new LinkedHashMap<>();
      map.forEach((key, entry) -> checked.put(key, finite(entry)));
      return checked;
    }
    return value instanceof List<?> list ? list.stream().map(Results::finite).toList() : value;
  }

  /** Writes results.json with the entries so far. */
  void write() {
    AtomicFiles.writeString(file(JSON), GSON.toJson(entries) + "\n");
  }

  /**
   * Writes the entropies of attention and prints them; of a causal model, whose first tokens see
   * few others, also those relative to the largest possible.
   */
  void entropies(PrintWriter out, ModelConfig config, HeadImportance importance) {
    Npy.write(file(ENTROPY), importance.entropy());
    Tables.print(out, "Attention entropies", importance.entropy());
    if (config.architecture().isCausal()) {
      Npy.write(file(RELATIVE_ENTROPY), importance.relativeEntropy());
      Tables.print(
          out, "Attention entropies, of the largest possible", importance.relativeEntropy());
    }
  }

  /** A file that is kept while there are no results yet; its folder is made. */
  Path unfinished(String name) {
    makeFolder();
    return folder.resolve(name);
  }

  private void makeFolder() {
    try {
      Files.createDirectories(folder);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: the folder cannot be made: %s", folder, e);
    }
  }

  /** The file of this name, to be written now. */
  Path file(String name) {
    if (!begun) {
      begin();
      begun = true;
    }
    return folder.resolve(name);
  }

  private void begin() {
    makeFolder();
    try {
      for (String earlier : ALL) {
        Files.deleteIfExists(folder.resolve(earlier));
      }
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: the folder cannot be made ready: %s", folder, e);
    }
  }

  Path folder() {
    return folder;
  }
}
