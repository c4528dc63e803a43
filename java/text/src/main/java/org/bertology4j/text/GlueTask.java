package org.bertology4j.text;

import java.io.InputStream;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import org.bertology4j.BertologyException;

/**
 * The tasks of GLUE, read from its official tab-separated files as Hugging Face's {@code
 * glue_processors} do: the same columns, the same order of the classes, the same metrics.
 */
public enum GlueTask {
  /** Is the sentence acceptable? Its files for training and development have no header. */
  COLA("cola", "", Columns.single(3, 1), Columns.single(1), binary(), metrics(Metric.MCC)),

  /** Is the film review positive? */
  SST_2("sst-2", "", Columns.single(0, 1), Columns.single(1), binary(), metrics(Metric.ACC)),

  /** Do the sentences say the same? */
  MRPC("mrpc", "", Columns.pair(3, 4, 0), Columns.pair(3, 4), binary(), accuracyAndF1()),

  /** How similar are the sentences, from 0 to 5? */
  STS_B(
      "sts-b",
      "",
      Columns.pair(7, 8, Columns.LAST),
      Columns.pair(7, 8),
      Labels.regression(),
      metrics(Metric.CORR, Metric.PEARSON, Metric.SPEARMANR)),

  /** Do the questions ask the same? */
  QQP("qqp", "", Columns.pair(3, 4, 5), Columns.pair(1, 2), binary(), accuracyAndF1()),

  /** Does the second sentence follow from the first? Texts of the genres of the training data. */
  MNLI(
      "mnli",
      "_matched",
      Columns.pair(8, 9, Columns.LAST),
      Columns.pair(8, 9),
      Labels.classes("contradiction", "entailment", "neutral"),
      metrics("mnli/")),

  /** The same as {@link #MNLI}, with texts of other genres. */
  MNLI_MM(
      "mnli-mm",
      "_mismatched",
      Columns.pair(8, 9, Columns.LAST),
      Columns.pair(8, 9),
      Labels.classes("contradiction", "entailment", "neutral"),
      metrics("mnli-mm/")),

  /** Does the sentence answer the question? */
  QNLI(
      "qnli",
      "",
      Columns.pair(1, 2, Columns.LAST),
      Columns.pair(1, 2),
      entailment(),
      metrics(Metric.ACC)),

  /** Does the second sentence follow from the first? */
  RTE(
      "rte",
      "",
      Columns.pair(1, 2, Columns.LAST),
      Columns.pair(1, 2),
      entailment(),
      metrics(Metric.ACC)),

  /** Does the second sentence, with a noun for a pronoun, follow from the first? */
  WNLI(
      "wnli",
      "",
      Columns.pair(1, 2, Columns.LAST),
      Columns.pair(1, 2),
      binary(),
      metrics(Metric.ACC));

  /** The parts of a task's data. */
  public enum Split {
    /** For training; with labels. */
    TRAIN,
    /** For development; with labels. This is what {@code run_bertology.py} looks at. */
    DEV,
    /** For GLUE's own evaluation; without labels. */
    TEST
  }

  /**
   * Places of the columns, from 0; -1 for one that is not there.
   *
   * @param label the place, or {@link #LAST}
   */
  private record Columns(int first, int second, int label) {
    static final int NONE = -1;
    static final int LAST = Integer.MAX_VALUE;

    static Columns single(int text) {
      return new Columns(text, NONE, NONE);
    }

    static Columns single(int text, int label) {
      return new Columns(text, NONE, label);
    }

    static Columns pair(int first, int second) {
      return new Columns(first, second, NONE);
    }

    static Columns pair(int first, int second, int label) {
      return new Columns(first, second, label);
    }

    /** How many columns a row must have. The last column is one behind those of the texts. */
    int needed() {
      int texts = Math.max(first, second) + 1;
      return label == LAST ? texts + 1 : Math.max(texts, label + 1);
    }

    TextPair text(List<String> cells) {
      return second == NONE
          ? TextPair.of(cells.get(first))
          : TextPair.of(cells.get(first), cells.get(second));
    }

    String label(List<String> cells) {
      return cells.get(label == LAST ? cells.size() - 1 : label);
    }
  }

  private final String taskName;
  private final String suffix;
  private final Columns labelled;
  private final Columns unlabelled;
  private final Labels labels;
  private final Map<String, Metric> metrics;

  GlueTask(
      String taskName,
      String suffix,
      Columns labelled,
      Columns unlabelled,
      Labels labels,
      Map<String, Metric> metrics) {
    this.taskName = taskName;
    this.suffix = suffix;
    this.labelled = labelled;
    this.unlabelled = unlabelled;
    this.labels = labels;
    this.metrics = Collections.unmodifiableMap(metrics);
  }

  private static Labels binary() {
    return Labels.classes("0", "1");
  }

  private static Labels entailment() {
    return Labels.classes("entailment", "not_entailment");
  }

  private static Map<String, Metric> metrics(Metric... metrics) {
    Map<String, Metric> byName = new LinkedHashMap<>();
    for (Metric metric : metrics) {
      byName.put(metric.metricName(), metric);
    }
    return byName;
  }

  private static Map<String, Metric> metrics(String prefix) {
    return Map.of(prefix + Metric.ACC.metricName(), Metric.ACC);
  }

  private static Map<String, Metric> accuracyAndF1() {
    return metrics(Metric.ACC, Metric.F1, Metric.ACC_AND_F1);
  }

  /** The task of this name, in any case, with or without dashes: {@code sst-2}, {@code SST2}. */
  public static GlueTask of(String name) {
    String wanted = plain(name);
    return Arrays.stream(values())
        .filter(task -> plain(task.taskName).equals(wanted))
        .findFirst()
        .orElseThrow(
            () ->
                BertologyException.invalid(
                    "unknown task \"%s\", known are %s",
                    name,
                    Arrays.stream(values())
                        .map(GlueTask::taskName)
                        .collect(Collectors.joining(", "))));
  }

  private static String plain(String name) {
    return name.strip().toLowerCase(Locale.ROOT).replace("-", "").replace("_", "");
  }

  /** Its name, as Hugging Face writes it: {@code sst-2}. */
  public String taskName() {
    return taskName;
  }

  /** What its labels are. */
  public Labels labels() {
    return labels;
  }

  /** Number of outputs that a classifier for it has: the number of classes, or 1. */
  public int numLabels() {
    return labels.count();
  }

  /** Whether an example is two texts. */
  public boolean pairs() {
    return labelled.second() != Columns.NONE;
  }

  /** Its metrics by their names, the default one first. */
  public Map<String, Metric> metrics() {
    return metrics;
  }

  /**
   * The name of the metric that counts if none is asked for: {@code acc} or {@code mnli/acc} where
   * the task has it, else {@code mcc} for cola and {@code corr} for sts-b.
   */
  public String defaultMetric() {
    return metrics.keySet().iterator().next();
  }

  /** One of the task's metrics by its name; {@code acc} is also understood for mnli. */
  public Metric metric(String name) {
    return metrics.entrySet().stream()
        .filter(
            entry ->
                entry.getKey().equalsIgnoreCase(name)
                    || entry.getValue().metricName().equalsIgnoreCase(name))
        .findFirst()
        .map(Map.Entry::getValue)
        .orElseThrow(
            () ->
                BertologyException.invalid(
                    "%s has no metric \"%s\", it has %s", taskName, name, metrics.keySet()));
  }

  /** The name of the file of a split in the task's folder. */
  public String fileName(Split split) {
    String part = split.name().toLowerCase(Locale.ROOT);
    return part + (split == Split.TRAIN ? "" : suffix) + ".tsv";
  }

  /** Reads a split from the task's folder. */
  public Dataset read(Path folder, Split split) {
    Path file = folder.resolve(fileName(split));
    return read(Utf8Reader.open(file), file.toString(), split);
  }

  /**
   * Reads a split from a stream to its end, and closes it.
   *
   * @param where what to call the stream in messages
   */
  public Dataset read(InputStream in, String where, Split split) {
    Columns columns = split == Split.TEST ? unlabelled : labelled;
    boolean header = this != COLA || split == Split.TEST;
    Examples examples = new Examples(where);
    boolean[] headerSeen = {!header};
    Rows.forEach(
        in,
        where,
        Rows.TSV,
        row -> {
          if (headerSeen[0]) {
            addRow(row, columns, where, examples);
          }
          headerSeen[0] = true;
        });
    String name = taskName + " " + split.name().toLowerCase(Locale.ROOT);
    return split == Split.TEST
        ? examples.unlabelled(name)
        : examples.labelled(name, labels, LabelText.Form.EXACT);
  }

  private void addRow(Rows.Row row, Columns columns, String where, Examples examples) {
    List<String> cells = row.cells();
    if (cells.size() < columns.needed() && this == QQP) {
      // The official files have a few such rows, and Hugging Face's reader leaves them out.
      examples.skip();
      return;
    }
    BertologyException.check(
        cells.size() >= columns.needed(),
        "%s:%d: %d columns, expected %d or more for %s",
        where,
        row.line(),
        cells.size(),
        columns.needed(),
        taskName);
    if (columns.label() == Columns.NONE) {
      examples.add(row.line(), columns.text(cells));
    } else {
      examples.add(row.line(), columns.text(cells), columns.label(cells));
    }
  }

  /** Its name, as Hugging Face writes it: {@code sst-2}. */
  @Override
  public String toString() {
    return taskName;
  }
}
