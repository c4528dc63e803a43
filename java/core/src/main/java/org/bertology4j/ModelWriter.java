package org.bertology4j;

import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.WritableByteChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SortedMap;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.bertology4j.checkpoint.AtomicFiles;
import org.bertology4j.checkpoint.Checkpoint;
import org.bertology4j.checkpoint.SafetensorsType;
import org.bertology4j.checkpoint.SafetensorsWriter;
import org.bertology4j.checkpoint.StagedFiles;
import org.bertology4j.checkpoint.StoredTensor;
import org.bertology4j.internal.ParameterMap;

/**
 * Writes a model as a Hugging Face folder: the checkpoint's tensors, cut to the heads that are
 * left.
 */
final class ModelWriter {
  private static final List<String> TOKENIZER_FILES =
      List.of(
          "tokenizer.json",
          "tokenizer_config.json",
          "special_tokens_map.json",
          "added_tokens.json",
          "vocab.txt",
          "vocab.json",
          "merges.txt");

  /** How names of the transformer start, to which a model with more than it gives a prefix. */
  private static final List<String> TRANSFORMER =
      List.of(
          "embeddings.",
          "encoder.",
          "pooler.", // BERT
          "wte.",
          "wpe.",
          "tokens_embed.",
          "positions_embed.",
          "h.",
          "ln_f.");

  private static final String ARCHITECTURES = "architectures";

  private final Model.SaveFormat format;
  private final ModelConfig config;
  private final Checkpoint checkpoint;
  private final JsonObject configJson;
  private final Map<String, ParameterMap.Entry> parameters = new HashMap<>();

  private ModelWriter(Model.SaveFormat format, ModelConfig config, Checkpoint checkpoint) {
    this.format = format;
    this.config = config;
    this.checkpoint = checkpoint;
    this.configJson = makeConfigJson();
    ParameterMap.of(config).forEach(entry -> parameters.put(entry.huggingFace(), entry));
  }

  static void write(
      Path folder,
      Model.SaveFormat format,
      ModelConfig config,
      Checkpoint checkpoint,
      SortedMap<String, Model.ReplacedTensor> replaced) {
    ModelWriter writer = new ModelWriter(format, config, checkpoint);
    List<Path> made = new ArrayList<>();
    try (StagedFiles files = new StagedFiles()) {
      makeFolders(folder.toAbsolutePath(), made);
      writer.stage(files, folder, replaced);
      files.commit();
      made.clear();
      writer.deleteOtherTokenizer(folder);
    } finally {
      // Of what failed, no folders stay either, unless somebody else has put something there.
      made.forEach(ModelWriter::deleteIfEmpty);
    }
  }

  private void stage(
      StagedFiles files, Path folder, SortedMap<String, Model.ReplacedTensor> replaced) {
    List<SafetensorsWriter.Entry> entries = new ArrayList<>();
    for (StoredTensor tensor : checkpoint.tensors().values()) {
      if (!replaced.containsKey(tensor.name())) {
        entries.add(stored(tensor));
      }
    }
    replaced.forEach((name, tensor) -> entries.add(replacement(name, tensor)));
    // The configuration last: whoever finds it finds all that belongs to it.
    copyTokenizer(files, folder);
    SafetensorsWriter.stage(
        files,
        folder.resolve("model.safetensors"),
        SafetensorsWriter.HUGGING_FACE_METADATA,
        entries);
    files.write(folder.resolve("config.json"), configBytes());
  }

  /** Makes a folder and those around it; {@code made} gets the ones that were not there. */
  private static void makeFolders(Path folder, List<Path> made) {
    if (Files.isDirectory(folder)) {
      return;
    }
    Optional.ofNullable(folder.getParent()).ifPresent(parent -> makeFolders(parent, made));
    try {
      Files.createDirectory(folder);
      made.add(0, folder);
    } catch (IOException e) {
      if (!Files.isDirectory(folder)) { // unless somebody else was faster
        throw BertologyException.io(e, "%s: the folder could not be made: %s", folder, e);
      }
    }
  }

  private static void deleteIfEmpty(Path folder) {
    try {
      Files.deleteIfExists(folder);
    } catch (IOException e) {
      // It has files of others, or belongs to them.
    }
  }

  // ------------------------------------------------------------------------------------ tensors

  /**
   * Hugging Face's name of a parameter: those of the transformer have its prefix in every model but
   * the bare one, whatever task the other one is for.
   */
  private String fullName(String name) {
    boolean bare =
        configJson
            .get(ARCHITECTURES)
            .equals(list(config.architecture().className(ModelConfig.Task.ENCODER)));
    boolean ofTransformer = TRANSFORMER.stream().anyMatch(name::startsWith);
    return ofTransformer && !bare ? config.architecture().prefix() + name : name;
  }

  private SafetensorsWriter.Entry replacement(String name, Model.ReplacedTensor tensor) {
    ByteBuffer bytes = littleEndian(tensor.values());
    return SafetensorsWriter.Entry.of(fullName(name), SafetensorsType.F32, tensor.shape(), bytes);
  }

  private static ByteBuffer littleEndian(float[] values) {
    ByteBuffer bytes =
        ByteBuffer.allocate(values.length * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(values);
    return bytes;
  }

  private SafetensorsWriter.Entry stored(StoredTensor tensor) {
    ParameterMap.Entry parameter = parameters.get(tensor.name());
    ParameterMap.ByHead byHead = parameter == null ? ParameterMap.ByHead.WHOLE : parameter.byHead();
    if (byHead == ParameterMap.ByHead.WHOLE && !tensor.transposed()) {
      return entry(tensor, tensor.shape(), channel -> copy(tensor, channel));
    }
    int rows = Math.toIntExact(tensor.shape().get(0));
    int columns = tensor.shape().size() == 2 ? Math.toIntExact(tensor.shape().get(1)) : 1;
    int[] takenRows = IntStream.range(0, rows).toArray();
    int[] takenColumns = IntStream.range(0, columns).toArray();
    if (byHead == ParameterMap.ByHead.ROWS) {
      takenRows = taken(parameter);
    } else if (byHead == ParameterMap.ByHead.COLUMNS) {
      takenColumns = taken(parameter);
    }
    List<Long> shape =
        tensor.shape().size() == 2
            ? List.of((long) takenRows.length, (long) takenColumns.length)
            : List.of((long) takenRows.length);
    int[] finalRows = takenRows;
    int[] finalColumns = takenColumns;
    return entry(
        tensor,
        shape,
        channel -> rearrange(tensor, rows, columns, finalRows, finalColumns, channel));
  }

  private SafetensorsWriter.Entry entry(
      StoredTensor tensor, List<Long> shape, AtomicFiles.Content content) {
    return new SafetensorsWriter.Entry(
        fullName(tensor.name()), SafetensorsType.of(tensor.type()), shape, content);
  }

  private ByteBuffer read(StoredTensor tensor) {
    tensor.checkFitsBuffer();
    ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes());
    checkpoint.read(tensor, bytes);
    return bytes.flip();
  }

  private void copy(StoredTensor tensor, WritableByteChannel channel) throws IOException {
    writeAll(read(tensor), channel);
  }

  private static void writeAll(ByteBuffer bytes, WritableByteChannel channel) throws IOException {
    while (bytes.hasRemaining()) {
      channel.write(bytes);
    }
  }

  /**
   * For each row (or column) that is written, the one of the checkpoint that it is; -1 for zeros.
   * The checkpoint has the rows of its own heads only; of a fused parameter three times.
   */
  private int[] taken(ParameterMap.Entry parameter) {
    int layer = parameter.layer();
    Heads inCheckpoint = checkpoint.config().prunedHeads();
    List<Integer> rows = new ArrayList<>();
    int place = 0;
    for (int part = 0; part < (parameter.isFused() ? 3 : 1); part++) {
      for (int head = 0; head < config.numAttentionHeads(); head++) {
        boolean stored = !inCheckpoint.contains(layer, head);
        boolean kept = !config.prunedHeads().contains(layer, head);
        if (kept || format == Model.SaveFormat.FULL_SHAPE) {
          for (int i = 0; i < config.headDim(); i++) {
            rows.add(kept ? place * config.headDim() + i : -1);
          }
        }
        place += stored ? 1 : 0;
      }
    }
    return rows.stream().mapToInt(Integer::intValue).toArray();
  }

  private void rearrange(
      StoredTensor tensor,
      int rows,
      int columns,
      int[] takenRows,
      int[] takenColumns,
      WritableByteChannel channel)
      throws IOException {
    int size = tensor.type().bytes();
    int rowStep = tensor.transposed() ? size : columns * size;
    int columnStep = tensor.transposed() ? rows * size : size;
    ByteBuffer from = read(tensor);
    ByteBuffer to = ByteBuffer.allocate(takenRows.length * takenColumns.length * size);
    for (int row : takenRows) {
      for (int column : takenColumns) {
        if (row < 0 || column < 0) {
          to.position(to.position() + size);
          continue;
        }
        int place = row * rowStep + column * columnStep;
        if (size == Float.BYTES) {
          to.putInt(from.getInt(place));
        } else {
          to.putShort(from.getShort(place));
        }
      }
    }
    writeAll(to.flip(), channel);
  }

  // ------------------------------------------------------------------------------------ the rest

  private JsonObject makeConfigJson() {
    JsonObject json = config.toJson();
    json.addProperty("model_type", config.architecture().modelType());
    if (!json.has(ARCHITECTURES) || !json.get(ARCHITECTURES).isJsonArray()) {
      json.add(ARCHITECTURES, list(config.architecture().className(config.task())));
    }
    if (!json.has(config.architecture().epsilon())) {
      json.addProperty(config.architecture().epsilon(), config.layerNormEps());
    }
    if (format == Model.SaveFormat.FULL_SHAPE || config.prunedHeads().isEmpty()) {
      json.remove("pruned_heads");
    }
    return json;
  }

  private static JsonArray list(String name) {
    JsonArray list = new JsonArray();
    list.add(name);
    return list;
  }

  private byte[] configBytes() {
    String text =
        new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().create().toJson(configJson);
    return (text + "\n").getBytes(StandardCharsets.UTF_8);
  }

  private void copyTokenizer(StagedFiles files, Path folder) {
    for (String name : TOKENIZER_FILES) {
      Path target = folder.resolve(name);
      Optional<Path> source = tokenizerFile(name).filter(file -> !sameFile(file, target));
      if (source.isPresent()) {
        try {
          files.write(target, Files.readAllBytes(source.get()));
        } catch (IOException e) {
          throw BertologyException.io(e, "%s: could not be read: %s", source.get(), e.getMessage());
        }
      }
    }
  }

  /** A tokenizer that was there before is not this model's. */
  private void deleteOtherTokenizer(Path folder) {
    if (checkpoint.folder().map(from -> sameFile(from, folder)).orElse(false)) {
      return;
    }
    for (String name : TOKENIZER_FILES) {
      if (tokenizerFile(name).isEmpty()) {
        try {
          Files.deleteIfExists(folder.resolve(name));
        } catch (IOException e) {
          throw BertologyException.io(
              e, "%s: belongs to another model and could not be deleted", folder.resolve(name));
        }
      }
    }
  }

  /** The file of this name beside the checkpoint. */
  private Optional<Path> tokenizerFile(String name) {
    return checkpoint.folder().stream()
        .flatMap(from -> Stream.of(from.resolve(name), from.resolve("assets").resolve(name)))
        .filter(Files::isRegularFile)
        .findFirst();
  }

  private static boolean sameFile(Path one, Path other) {
    try {
      return Files.exists(other) && Files.isSameFile(one, other);
    } catch (IOException e) {
      return false;
    }
  }
}
