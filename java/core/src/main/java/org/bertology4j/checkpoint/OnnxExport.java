package org.bertology4j.checkpoint;

import com.google.gson.JsonObject;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig;

/** Opens an ONNX export of BERT. */
final class OnnxExport {
  static final String SUFFIX = ".onnx";

  private static final String FOLDER = "onnx";
  private static final String MODEL = "model.onnx";

  private OnnxExport() {}

  /**
   * Opens an export.
   *
   * @param source what the caller named
   */
  static Checkpoint open(Path source, Path model) {
    DataFiles files = new DataFiles();
    try {
      DataFile file = files.open(model);
      OnnxGraph graph = OnnxReader.read(file);
      OnnxWeights names = new OnnxWeights(graph, files);
      WeightTable weights = new WeightTable(model.toString(), names.weights());
      Optional<Path> config = findConfig(model);
      JsonObject json =
          config
              .map(ConfigFile::read)
              .orElseGet(() -> new OnnxConfig(graph, names, weights).derive());
      return new StoredCheckpoint(
          source,
          ModelConfig.fromJson(
              ConfigFile.completed(json, weights, model.toString()),
              config.orElse(model).toString()),
          weights,
          files);
    } catch (RuntimeException e) {
      files.close();
      throw e;
    }
  }

  /** The export that a folder has, if it has one. */
  static Optional<Path> findModel(Path folder, List<String> names) {
    return Stream.of(folder.resolve(MODEL), folder.resolve(FOLDER).resolve(MODEL))
        .filter(Files::isRegularFile)
        .findFirst()
        .or(
            () -> {
              List<String> models = names.stream().filter(name -> name.endsWith(SUFFIX)).toList();
              BertologyException.check(
                  models.size() <= 1,
                  "%s has several ONNX files, %s, and none is %s: name one of them",
                  folder,
                  Messages.few(models),
                  MODEL);
              return models.stream().map(folder::resolve).findFirst();
            });
  }

  /** Beside the file, or, as on the Hub, beside the folder of ONNX files. */
  private static Optional<Path> findConfig(Path model) {
    Path folder = model.toAbsolutePath().getParent();
    return Stream.of(folder, folder.endsWith(FOLDER) ? folder.getParent() : folder)
        .map(candidate -> candidate.resolve(ConfigFile.NAME))
        .filter(Files::isRegularFile)
        .findFirst();
  }
}
