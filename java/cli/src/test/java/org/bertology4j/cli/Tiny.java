package org.bertology4j.cli;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.TreeMap;
import org.bertology4j.Model;
import org.bertology4j.ModelConfig;
import org.bertology4j.ModelOptions;
import org.bertology4j.checkpoint.Checkpoint;
import org.bertology4j.checkpoint.StoredTensor;

/** Small random models with a tokenizer, and data for them. */
final class Tiny {
  static final int LAYERS = 3;
  static final int HEADS = 4;
  static final int POSITIONS = 24;

  private static final List<String> WORDS =
      List.of("the", "a", "film", "food", "phone", "is", "was", "good", "bad", "very", "not", "so");
  private static final List<String> VOCABULARY = vocabulary();

  private Tiny() {}

  private static List<String> vocabulary() {
    List<String> tokens = new ArrayList<>(List.of("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"));
    tokens.addAll(WORDS);
    return List.copyOf(tokens);
  }

  /** A classifier with these names for its outputs; with one, it is for regression. */
  static Path classifier(Path folder, String... labels) {
    return save(folder, json("BertForSequenceClassification", labels));
  }

  /** A model without a classifier. */
  static Path encoder(Path folder) {
    return save(folder, WithoutHeads.of(random(json("BertModel"))));
  }

  /** A masked language model. */
  static Path maskedLm(Path folder) {
    return save(folder, json("BertForMaskedLM"));
  }

  /** A model for regression that predicts the same number for everything. */
  static Path constant(Path folder) {
    JsonObject json = json("BertForSequenceClassification", "score");
    json.addProperty("initializer_range", 0);
    return save(folder, json);
  }

  /** A classifier of two classes that takes its time. */
  static Path slow(Path folder) {
    JsonObject json = json("BertForSequenceClassification", "bad", "good");
    json.addProperty("num_hidden_layers", 6);
    json.addProperty("hidden_size", 256);
    json.addProperty("intermediate_size", 1024);
    return save(folder, json);
  }

  private static JsonObject json(String architecture, String... labels) {
    JsonObject json = new JsonObject();
    JsonArray architectures = new JsonArray();
    architectures.add(architecture);
    json.add("architectures", architectures);
    json.addProperty("model_type", "bert");
    json.addProperty("num_hidden_layers", LAYERS);
    json.addProperty("num_attention_heads", HEADS);
    json.addProperty("hidden_size", 16);
    json.addProperty("intermediate_size", 24);
    json.addProperty("vocab_size", VOCABULARY.size());
    json.addProperty("max_position_embeddings", POSITIONS);
    json.addProperty("type_vocab_size", 2);
    // More than is usual, so that heads and predictions differ.
    json.addProperty("initializer_range", 0.5);
    JsonObject names = new JsonObject();
    for (int i = 0; i < labels.length; i++) {
      names.addProperty(String.valueOf(i), labels[i]);
    }
    if (labels.length > 0) {
      json.add("id2label", names);
    }
    return json;
  }

  private static Checkpoint random(JsonObject json) {
    return Checkpoint.random(ModelConfig.fromJson(json, "a tiny model"), 1);
  }

  /** A random checkpoint has every task's head; this one has none. */
  private record WithoutHeads(Checkpoint all, Map<String, StoredTensor> tensors)
      implements Checkpoint {
    static Checkpoint of(Checkpoint all) {
      Map<String, StoredTensor> tensors = new TreeMap<>(all.tensors());
      tensors.keySet().removeIf(name -> name.startsWith("classifier.") || name.startsWith("cls."));
      return new WithoutHeads(all, tensors);
    }

    @Override
    public ModelConfig config() {
      return all.config();
    }

    @Override
    public void read(StoredTensor tensor, ByteBuffer target) {
      all.read(tensor, target);
    }

    @Override
    public Path source() {
      return all.source();
    }

    @Override
    public Optional<Path> folder() {
      return all.folder();
    }

    @Override
    public void close() {
      all.close();
    }
  }

  private static Path save(Path folder, JsonObject json) {
    return save(folder, random(json));
  }

  private static Path save(Path folder, Checkpoint checkpoint) {
    try (Model model = Model.load(checkpoint, ModelOptions.defaults())) {
      model.save(folder);
    }
    write(folder.resolve("vocab.txt"), VOCABULARY);
    return folder;
  }

  /** Sentences of one to {@code most} words. */
  static List<String> sentences(int count, int most, long seed) {
    Random random = new Random(seed);
    List<String> sentences = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      List<String> words = new ArrayList<>();
      for (int left = 1 + random.nextInt(most); left > 0; left--) {
        words.add(WORDS.get(random.nextInt(WORDS.size())));
      }
      sentences.add(String.join(" ", words));
    }
    return sentences;
  }

  /** A column of labels, drawn from these. */
  static List<String> labels(int count, long seed, String... labels) {
    return new Random(seed).ints(count, 0, labels.length).mapToObj(i -> labels[i]).toList();
  }

  /** Writes tab-separated columns, with a header unless it is empty. */
  static Path table(Path file, String header, List<?>... columns) {
    List<String> lines = new ArrayList<>();
    if (!header.isEmpty()) {
      lines.add(header);
    }
    for (int row = 0; row < columns[0].size(); row++) {
      List<String> cells = new ArrayList<>();
      for (List<?> column : columns) {
        cells.add(String.valueOf(column.get(row)));
      }
      lines.add(String.join("\t", cells));
    }
    return write(file, lines);
  }

  /** Writes a file, and the folders that it is in. */
  static Path write(Path file, List<String> lines) {
    try {
      Files.createDirectories(file.getParent());
      return Files.write(file, lines);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
