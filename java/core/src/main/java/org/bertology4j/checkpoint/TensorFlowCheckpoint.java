package org.bertology4j.checkpoint;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig;

/** Opens a TensorFlow bundle with the variables of Google's BERT. */
final class TensorFlowCheckpoint {
  static final String SAVED_MODEL_INDEX = "variables/variables.index";
  static final String GOOGLE_INDEX = "bert_model.ckpt.index";

  /** An entry of TensorFlow 2's checkpoints, whose variables are named after Python objects. */
  private static final String OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH";

  private TensorFlowCheckpoint() {}

  /**
   * Opens a bundle.
   *
   * @param source what the caller named
   */
  static Checkpoint open(Path source, Path index) {
    DataFiles files = new DataFiles();
    try {
      TensorBundle bundle = TensorBundle.open(files, index);
      if (bundle.variables().containsKey(OBJECT_GRAPH)) {
        throw new BertologyException(
            BertologyException.Kind.UNSUPPORTED,
            index
                + " is a checkpoint of TensorFlow 2's objects; one with the variables of Google's"
                + " BERT is supported, such as bert/encoder/layer_0/attention/self/query/kernel");
      }
      WeightTable table = new WeightTable(index.toString(), weights(bundle, index));
      Path config = findConfig(index);
      return new StoredCheckpoint(
          source,
          ModelConfig.fromJson(
              ConfigFile.completed(ConfigFile.read(config), table, index.toString()),
              config.toString()),
          table,
          files);
    } catch (RuntimeException e) {
      files.close();
      throw e;
    }
  }

  /** The index that a folder has, if it has one. */
  static Optional<Path> findIndex(Path folder, List<String> names) {
    return Stream.of(SAVED_MODEL_INDEX, GOOGLE_INDEX)
        .map(folder::resolve)
        .filter(Files::isRegularFile)
        .findFirst()
        .or(
            () -> {
              List<String> indices =
                  names.stream().filter(name -> name.endsWith(TensorBundle.INDEX_SUFFIX)).toList();
              BertologyException.check(
                  indices.size() <= 1,
                  "%s has several TensorFlow bundles, %s: name one of them",
                  folder,
                  Messages.few(indices));
              return indices.stream().map(folder::resolve).findFirst();
            });
  }

  private static Path findConfig(Path index) {
    Path folder = index.toAbsolutePath().getParent();
    List<Path> candidates = new ArrayList<>();
    candidates.add(folder.resolve(ConfigFile.GOOGLE_NAME));
    candidates.add(folder.resolve(ConfigFile.NAME));
    if (index.toAbsolutePath().endsWith(SAVED_MODEL_INDEX)) {
      candidates.add(folder.resolveSibling(ConfigFile.GOOGLE_NAME));
      candidates.add(folder.resolveSibling(ConfigFile.NAME));
    }
    return candidates.stream()
        .filter(Files::isRegularFile)
        .findFirst()
        .orElseThrow(
            () ->
                BertologyException.invalid(
                    "%s: the number of attention heads is not in the weights: put the model's %s"
                        + " beside them (looked for %s)",
                    index, ConfigFile.GOOGLE_NAME, candidates));
  }

  private static List<Weight> weights(TensorBundle bundle, Path index) {
    List<Weight> weights = new ArrayList<>();
    for (TensorBundle.Variable variable : bundle.variables().values()) {
      Optional<ParameterNames.Renamed> renamed = ParameterNames.fromTensorFlow(variable.name());
      if (renamed.isEmpty()) {
        continue;
      }
      boolean kernel = renamed.get().kernel();
      if (kernel && variable.shape().size() != 2) {
        throw new BertologyException(
            BertologyException.Kind.UNSUPPORTED,
            String.format(
                "%s: variable %s has the shape %s; kernels of [inputs, outputs] are supported",
                index, Messages.quote(variable.name()), variable.shape()));
      }
      List<Long> shape = new ArrayList<>(variable.shape());
      if (kernel) {
        Collections.reverse(shape);
      }
      weights.add(
          new Weight(
              renamed.get().name(),
              variable.name(),
              variable.typeName(),
              variable.type(),
              shape,
              kernel,
              () -> bundle.segment(variable)));
    }
    return weights;
  }
}
