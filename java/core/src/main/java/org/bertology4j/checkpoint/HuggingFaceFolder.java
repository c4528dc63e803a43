package org.bertology4j.checkpoint;

import com.google.gson.stream.JsonReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig;

/** Opens a folder of Hugging Face: config.json and safetensors files. */
final class HuggingFaceFolder {
  static final String WEIGHTS = "model.safetensors";
  static final String INDEX = "model.safetensors.index.json";

  private static final long LARGEST_INDEX = 100_000_000;

  private HuggingFaceFolder() {}

  /** Opens the weights of a folder, in one file or in shards. */
  static Checkpoint open(Path folder) {
    Path weights = folder.resolve(WEIGHTS);
    return Files.exists(weights)
        ? open(folder, folder, weights)
        : open(folder, folder, folder.resolve(INDEX));
  }

  /** Opens a file of weights with the configuration beside it. */
  static Checkpoint openFile(Path weights) {
    return open(weights, weights.toAbsolutePath().getParent(), weights);
  }

  private static Checkpoint open(Path source, Path folder, Path weights) {
    Path config = folder.resolve(ConfigFile.NAME);
    BertologyException.check(
        Files.exists(config),
        "%s has no %s, which says what %s is a model of: copy it from where the weights are from",
        folder,
        ConfigFile.NAME,
        weights.getFileName());
    DataFiles files = new DataFiles();
    try {
      List<Weight> found =
          weights.endsWith(INDEX)
              ? readShards(files, folder, weights)
              : weights(SafetensorsFile.of(files.open(weights)), files.open(weights));
      ModelConfig shape = ModelConfig.fromJson(ConfigFile.read(config), config.toString());
      WeightTable table = new WeightTable(weights.toString(), found, shape.architecture());
      return new StoredCheckpoint(source, shape, table, files);
    } catch (RuntimeException e) {
      files.close();
      throw e;
    }
  }

  private static List<Weight> weights(SafetensorsFile safetensors, DataFile file) {
    return safetensors.tensors().values().stream()
        .map(
            tensor ->
                new Weight(
                    tensor.name(),
                    tensor.name(),
                    tensor.type().name(),
                    tensor.type().storedType(),
                    tensor.shape(),
                    false,
                    () -> Segment.of(file, tensor.offset(), tensor.bytes())))
        .toList();
  }

  private static List<Weight> readShards(DataFiles files, Path folder, Path index) {
    Map<String, String> shardOf = readIndex(files.open(index));
    Map<String, String> foundIn = new LinkedHashMap<>();
    List<Weight> found = new ArrayList<>();
    for (String shard : new TreeSet<>(shardOf.values())) {
      Path path = DataFiles.inside(folder, shard, index.toString());
      BertologyException.check(
          Files.exists(path), "%s names the shard %s, which is missing", index, path);
      DataFile file = files.open(path);
      for (Weight weight : weights(SafetensorsFile.of(file), file)) {
        String other = foundIn.put(weight.storedAs(), shard);
        BertologyException.check(
            other == null,
            "%s: tensor %s is in the shard %s and in %s",
            folder,
            Messages.quote(weight.storedAs()),
            other,
            shard);
        found.add(weight);
      }
    }
    shardOf.forEach(
        (name, shard) ->
            BertologyException.check(
                shard.equals(foundIn.get(name)),
                "%s: tensor %s is not in the shard %s, where %s says it is",
                folder,
                Messages.quote(name),
                shard,
                INDEX));
    return found;
  }

  private static Map<String, String> readIndex(DataFile index) {
    BertologyException.check(
        index.size() <= LARGEST_INDEX,
        "%s has %d bytes, expected at most %d",
        index.path(),
        index.size(),
        LARGEST_INDEX);
    String where = index.path().toString();
    return StrictJson.read(index, 0, index.size(), where, json -> readIndex(json, where));
  }

  private static Map<String, String> readIndex(JsonReader json, String where) throws IOException {
    Map<String, String> shardOf = new LinkedHashMap<>();
    StrictJson.Members members = new StrictJson.Members(json, where);
    while (members.hasNext()) {
      if (!members.nextName().equals("weight_map")) {
        json.skipValue();
        continue;
      }
      StrictJson.Members weights = new StrictJson.Members(json, where + ": weight_map");
      while (weights.hasNext()) {
        String name = weights.nextName();
        shardOf.put(name, weights.nextString(name));
      }
    }
    BertologyException.check(!shardOf.isEmpty(), "%s has no weight_map with tensors", where);
    return shardOf;
  }
}
