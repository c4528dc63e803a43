package org.bertology4j.cli;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.bertology4j.BertologyException;
import org.bertology4j.checkpoint.AtomicFiles;

/**
 * results.json of a run: written anew after each stage, so that an interrupted run keeps what it
 * had finished.
 */
final class Results {
  private static final Gson GSON =
      new GsonBuilder()
          .setPrettyPrinting()
          .disableHtmlEscaping()
          .serializeSpecialFloatingPointValues()
          .create();

  private final Path folder;
  private final Map<String, Object> entries = new LinkedHashMap<>();

  /** Results in a folder, which is made if it is not there. */
  Results(Path folder) {
    this.folder = folder;
    try {
      Files.createDirectories(folder);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: the folder could not be made: %s", folder, e);
    }
  }

  Results put(String name, Object value) {
    entries.put(name, value);
    return this;
  }

  void write() {
    AtomicFiles.writeString(file("results.json"), GSON.toJson(entries) + "\n");
  }

  Path file(String name) {
    return folder.resolve(name);
  }

  Path folder() {
    return folder;
  }
}
