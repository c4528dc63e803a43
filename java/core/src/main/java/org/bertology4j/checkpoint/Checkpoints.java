package org.bertology4j.checkpoint;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.bertology4j.BertologyException;

/** Finds out what a path holds. */
final class Checkpoints {
  private static final String SAFETENSORS_SUFFIX = ".safetensors";
  private static final List<String> PICKLE_SUFFIXES = List.of(".bin", ".pt", ".pth", ".pkl");

  private static final String EXPECTED =
      String.format(
          "expected %s with %s or %s (Hugging Face); one %s file (ONNX); or %s with %s or %s"
              + " (TensorFlow)",
          ConfigFile.NAME,
          HuggingFaceFolder.WEIGHTS,
          HuggingFaceFolder.INDEX,
          OnnxExport.SUFFIX,
          ConfigFile.GOOGLE_NAME,
          TensorFlowCheckpoint.SAVED_MODEL_INDEX,
          TensorFlowCheckpoint.GOOGLE_INDEX);

  private Checkpoints() {}

  static Checkpoint open(Path path) {
    return Files.isDirectory(path) ? openFolder(path) : openFile(path);
  }

  private static Checkpoint openFolder(Path folder) {
    if (Files.exists(folder.resolve(HuggingFaceFolder.WEIGHTS))
        || Files.exists(folder.resolve(HuggingFaceFolder.INDEX))) {
      return HuggingFaceFolder.open(folder);
    }
    List<String> names = list(folder);
    Optional<Path> onnx = OnnxExport.findModel(folder, names);
    if (onnx.isPresent()) {
      return OnnxExport.open(folder, onnx.get());
    }
    Optional<Path> index = TensorFlowCheckpoint.findIndex(folder, names);
    if (index.isPresent()) {
      return TensorFlowCheckpoint.open(folder, index.get());
    }
    names.stream()
        .filter(Checkpoints::isPickle)
        .findFirst()
        .ifPresent(name -> refusePickle(folder.resolve(name)));
    throw BertologyException.invalid(
        "%s: no checkpoint of a known format: %s; found %s", folder, EXPECTED, Messages.few(names));
  }

  private static Checkpoint openFile(Path path) {
    String name = Optional.ofNullable(path.getFileName()).map(Path::toString).orElse("");
    Path index = path.resolveSibling(name + TensorBundle.INDEX_SUFFIX);
    if (Files.isRegularFile(index)) {
      return TensorFlowCheckpoint.open(path, index);
    }
    if (!Files.exists(path)) {
      throw new BertologyException(BertologyException.Kind.IO, path + ": no such file or folder");
    }
    if (name.endsWith(SAFETENSORS_SUFFIX)) {
      return HuggingFaceFolder.openFile(path);
    }
    if (name.endsWith(OnnxExport.SUFFIX)) {
      return OnnxExport.open(path, path);
    }
    if (name.endsWith(TensorBundle.INDEX_SUFFIX)) {
      return TensorFlowCheckpoint.open(path, path);
    }
    if (isPickle(name)) {
      refusePickle(path);
    }
    throw BertologyException.invalid(
        "%s: no checkpoint of a known format: expected a folder, or a file ending in %s, %s or %s",
        path, SAFETENSORS_SUFFIX, OnnxExport.SUFFIX, TensorBundle.INDEX_SUFFIX);
  }

  private static boolean isPickle(String name) {
    return PICKLE_SUFFIXES.stream().anyMatch(name::endsWith);
  }

  private static void refusePickle(Path path) {
    throw new BertologyException(
        BertologyException.Kind.UNSUPPORTED,
        path
            + ": pickled files are not read, because they can run code; convert it to safetensors"
            + " (save_pretrained(folder, safe_serialization=True))");
  }

  private static List<String> list(Path folder) {
    try (Stream<Path> paths = Files.list(folder)) {
      return paths.map(path -> path.getFileName().toString()).sorted().toList();
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be listed: %s", folder, e);
    }
  }
}
