package org.bertology4j.checkpoint;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.nio.file.Path;
import java.util.Map;
import org.bertology4j.BertologyException;

/** The JSON object beside the weights that a {@link ModelConfig} is made of. */
final class ConfigFile {
  static final String NAME = "config.json";
  static final String GOOGLE_NAME = "bert_config.json";

  private static final long LARGEST = 16 << 20;
  private static final long MOST_LABELS = 100_000;

  private ConfigFile() {}

  static JsonObject read(Path path) {
    try (DataFile file = DataFile.open(path)) {
      BertologyException.check(
          file.size() <= LARGEST,
          "%s has %d bytes, expected a configuration of at most %d",
          path,
          file.size(),
          LARGEST);
      return StrictJson.object(file);
    }
  }

  /**
   * The configuration with {@code architectures}, and labels of a classifier, as the weights have
   * them, where it names no architecture or one whose head is not among the weights. Exports often
   * leave out the head that the original has, and Google's configurations do not name one.
   *
   * @param where the file of the weights, for messages
   */
  static JsonObject completed(JsonObject json, WeightTable weights, String where) {
    Map<String, StoredTensor> tensors = weights.tensors();
    boolean classifier = tensors.containsKey(ParameterNames.CLASSIFIER);
    boolean maskedLm = tensors.containsKey(ParameterNames.MASKED_LM);
    JsonObject completed = json.deepCopy();
    if (!namesArchitecture(json, classifier, maskedLm)) {
      JsonArray architectures = new JsonArray();
      architectures.add(
          classifier
              ? "BertForSequenceClassification"
              : maskedLm ? "BertForMaskedLM" : "BertModel");
      completed.add("architectures", architectures);
    }
    if (classifier && !json.has("id2label") && !json.has("num_labels")) {
      weights
          .shape(ParameterNames.CLASSIFIER, 2)
          .ifPresent(shape -> completed.add("id2label", numberedLabels(shape.get(0), where)));
    }
    return completed;
  }

  private static boolean namesArchitecture(JsonObject json, boolean classifier, boolean maskedLm) {
    JsonElement architectures = json.get("architectures");
    if (architectures == null || !architectures.isJsonArray()) {
      return false;
    }
    for (JsonElement element : architectures.getAsJsonArray()) {
      String name = element.isJsonPrimitive() ? element.getAsString() : "";
      if (name.endsWith("ForSequenceClassification")) {
        return classifier;
      }
      if (name.endsWith("ForMaskedLM") || name.endsWith("ForPreTraining")) {
        return maskedLm;
      }
    }
    return !architectures.getAsJsonArray().isEmpty();
  }

  private static JsonObject numberedLabels(long count, String where) {
    BertologyException.check(
        count <= MOST_LABELS,
        "%s: the classifier has %d labels, expected at most %d",
        where,
        count,
        MOST_LABELS);
    JsonObject labels = new JsonObject();
    for (long i = 0; i < count; i++) {
      labels.addProperty(String.valueOf(i), "LABEL_" + i);
    }
    return labels;
  }
}
