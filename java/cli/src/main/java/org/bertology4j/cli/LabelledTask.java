package org.bertology4j.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.bertology4j.Batch;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.DatasetReader;
import org.bertology4j.text.GlueTask;
import org.bertology4j.text.Labels;
import org.bertology4j.text.Metric;

/**
 * A task whose examples have labels, before they are tokenized.
 *
 * @param source the folder or file of the data
 * @param data with its classes numbered as the model's
 * @param metrics by name, all of which are reported
 * @param metricName of the one that counts
 */
record LabelledTask(
    String name, Path source, Dataset data, Map<String, Metric> metrics, String metricName) {

  /** The task with its examples as batches. */
  Task task(List<Batch> batches) {
    return new Task(
        name,
        source,
        data.toString(),
        metricName,
        metrics.get(metricName).higherIsBetter(),
        batches,
        new LabelPredictions(data, metrics));
  }

  /** A task of GLUE, for a classifier that may have the classes in another order. */
  static LabelledTask ofGlue(
      GlueTask glue, Path folder, Optional<String> metricName, ModelConfig classifier) {
    Dataset data = fitted(glue.read(folder, GlueTask.Split.DEV), classifier);
    String name = metricName.map(wanted -> ownName(glue, wanted)).orElse(glue.defaultMetric());
    return new LabelledTask(glue.taskName(), folder, data, glue.metrics(), name);
  }

  private static String ownName(GlueTask glue, String wanted) {
    Metric metric = glue.metric(wanted);
    return glue.metrics().entrySet().stream()
        .filter(entry -> entry.getValue() == metric)
        .map(Map.Entry::getKey)
        .findFirst()
        .orElseThrow();
  }

  private static Dataset fitted(Dataset data, ModelConfig classifier) {
    Labels labels = data.labels();
    Labels ofModel = Labels.of(classifier);
    BertologyException.check(
        labels.kind() == ofModel.kind() && labels.count() == ofModel.count(),
        "%s: labels are %s, the model's are %s",
        data.name(),
        labels,
        ofModel);
    // The names tell the order, if they are names.
    boolean named =
        labels.names().stream()
            .allMatch(
                name -> ofModel.names().stream().anyMatch(other -> other.equalsIgnoreCase(name)));
    return labels.kind() == Labels.Kind.CLASSES && named ? data.withClassesOf(ofModel) : data;
  }

  /** A table, read with the labels of the classifier. */
  static LabelledTask ofTable(Path file, DatasetReader reader, Optional<String> metricName) {
    Dataset data = reader.read(file);
    boolean classes = data.labels().kind() == Labels.Kind.CLASSES;
    Metric metric = metricName.map(Metric::of).orElse(classes ? Metric.ACC : Metric.CORR);
    BertologyException.check(
        metric.kind() == data.labels().kind(),
        "%s is no metric for the labels of %s: %s",
        metric,
        file,
        data.labels());
    boolean binary = metric == Metric.F1 || metric == Metric.ACC_AND_F1;
    BertologyException.check(
        !binary || data.labels().count() == 2,
        "%s is for 2 classes, the labels of %s are %s",
        metric,
        file,
        data.labels());
    return new LabelledTask(
        data.name(), file, data, Map.of(metric.metricName(), metric), metric.metricName());
  }

  /** The same with the first so many examples. */
  LabelledTask first(int examples) {
    return new LabelledTask(name, source, data.first(examples), metrics, metricName);
  }
}
