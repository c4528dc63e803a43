package org.bertology4j.text;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.bertology4j.BertologyException;

/** Collects the examples of a file, with the line of each for messages. */
final class Examples {
  private final String where;
  private final List<TextPair> texts = new ArrayList<>();
  private final List<String> labels = new ArrayList<>();
  private final List<Long> lines = new ArrayList<>();
  // A file has few labels and many rows.
  private final Map<String, String> known = new HashMap<>();
  private int skipped;

  /**
   * @param where what to call the file in messages
   */
  Examples(String where) {
    this.where = where;
  }

  /** Adds an example without label. */
  void add(long line, TextPair text) {
    BertologyException.check(!text.isBlank(), "%s:%d: the text is blank", where, line);
    texts.add(text);
    lines.add(line);
  }

  /** Adds an example with its label as it is in the file. */
  void add(long line, TextPair text, String label) {
    add(line, text);
    String stripped = label.strip();
    BertologyException.check(!stripped.isEmpty(), "%s:%d: the label is missing", where, line);
    labels.add(known.computeIfAbsent(stripped, same -> same));
  }

  /** Counts a row that is left out. */
  void skip() {
    skipped++;
  }

  /** The examples without labels. */
  Dataset unlabelled(String name) {
    checkNotEmpty();
    return Dataset.of(name, texts).withSkippedRows(skipped);
  }

  /** The examples with labels of this kind, written as {@link LabelText.Form} says. */
  Dataset labelled(String name, Labels kind, LabelText.Form form) {
    checkNotEmpty();
    Dataset dataset =
        kind.kind() == Labels.Kind.REGRESSION
            ? Dataset.ofTargets(name, texts, targets())
            : Dataset.ofClasses(name, texts, kind, classes(kind, form));
    return dataset.withSkippedRows(skipped);
  }

  /** The distinct labels of the file. */
  List<String> distinctLabels() {
    return List.copyOf(known.keySet());
  }

  private void checkNotEmpty() {
    BertologyException.check(!texts.isEmpty(), "%s has no examples", where);
  }

  private double[] targets() {
    double[] targets = new double[labels.size()];
    for (int i = 0; i < targets.length; i++) {
      String label = labels.get(i);
      BertologyException.check(
          LabelText.isNumber(label),
          "%s:%d: the label is \"%s\", expected a number",
          where,
          lines.get(i),
          label);
      targets[i] = Double.parseDouble(label);
    }
    return targets;
  }

  private int[] classes(Labels kind, LabelText.Form form) {
    Map<String, Integer> classOf = LabelText.classes(known.keySet(), kind.names(), form);
    int[] classes = new int[labels.size()];
    for (int i = 0; i < classes.length; i++) {
      Integer found = classOf.get(labels.get(i));
      BertologyException.check(
          found != null,
          "%s:%d: unknown label \"%s\", expected one of %s%s",
          where,
          lines.get(i),
          labels.get(i),
          kind.names(),
          form == LabelText.Form.EXACT ? "" : " or their numbers from 0");
      classes[i] = found;
    }
    return classes;
  }
}
