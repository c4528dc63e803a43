package org.bertology4j.text;

import java.util.AbstractList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.RandomAccess;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;
import org.bertology4j.BertologyException;

/**
 * Examples in order, all with a label or none with one. Immutable, and never empty.
 *
 * <p>Texts and labels are kept apart, so that a large set costs little more than its texts.
 */
public final class Dataset {
  private final String name;
  private final List<TextPair> texts;
  private final Labels labels;
  private final int[] classes;
  private final double[] targets;
  private final int skippedRows;

  private Dataset(
      String name,
      List<TextPair> texts,
      Labels labels,
      int[] classes,
      double[] targets,
      int skippedRows) {
    this.name = Objects.requireNonNull(name, "name");
    this.texts = texts;
    this.labels = labels;
    this.classes = classes;
    this.targets = targets;
    this.skippedRows = skippedRows;
    BertologyException.check(!texts.isEmpty(), "%s has no examples", name);
  }

  /** Texts without labels. */
  public static Dataset of(String name, List<TextPair> texts) {
    return new Dataset(name, List.copyOf(texts), Labels.none(), new int[0], new double[0], 0);
  }

  /** Texts, each of one class: a place in the names of {@code labels}. */
  public static Dataset ofClasses(
      String name, List<TextPair> texts, Labels labels, int... classes) {
    BertologyException.check(
        labels.kind() == Labels.Kind.CLASSES, "%s: labels are %s, expected classes", name, labels);
    checkCount(name, texts.size(), classes.length);
    for (int i = 0; i < classes.length; i++) {
      BertologyException.check(
          classes[i] >= 0 && classes[i] < labels.count(),
          "%s: example %d is of class %d, expected 0 to %d",
          name,
          i,
          classes[i],
          labels.count() - 1);
    }
    return new Dataset(name, List.copyOf(texts), labels, classes.clone(), new double[0], 0);
  }

  /** Texts, each with a number to predict. */
  public static Dataset ofTargets(String name, List<TextPair> texts, double... targets) {
    checkCount(name, texts.size(), targets.length);
    for (int i = 0; i < targets.length; i++) {
      BertologyException.check(
          Double.isFinite(targets[i]),
          "%s: the target of example %d is %s, expected a finite number",
          name,
          i,
          targets[i]);
    }
    return new Dataset(
        name, List.copyOf(texts), Labels.regression(), new int[0], targets.clone(), 0);
  }

  private static void checkCount(String name, int texts, int labels) {
    BertologyException.check(texts == labels, "%s: %d labels for %d texts", name, labels, texts);
  }

  /** The same, saying that so many rows of its file were left out. */
  Dataset withSkippedRows(int rows) {
    return new Dataset(name, texts, labels, classes, targets, rows);
  }

  /** What it is called in messages. */
  public String name() {
    return name;
  }

  /** Number of examples. */
  public int size() {
    return texts.size();
  }

  /** What the labels are. */
  public Labels labels() {
    return labels;
  }

  /** How many rows of the file were left out because the task's own readers leave them out. */
  public int skippedRows() {
    return skippedRows;
  }

  /** The text of an example. */
  public TextPair text(int example) {
    return texts.get(checked(example));
  }

  /** The texts of all examples. */
  public List<TextPair> texts() {
    return texts;
  }

  /** The class of an example. */
  public int classOf(int example) {
    requireKind(Labels.Kind.CLASSES);
    return classes[checked(example)];
  }

  /** The classes of all examples. */
  public int[] classes() {
    requireKind(Labels.Kind.CLASSES);
    return classes.clone();
  }

  /** The number to predict for an example. */
  public double targetOf(int example) {
    requireKind(Labels.Kind.REGRESSION);
    return targets[checked(example)];
  }

  /** The numbers to predict for all examples. */
  public double[] targets() {
    requireKind(Labels.Kind.REGRESSION);
    return targets.clone();
  }

  /** An example with its label as text. */
  public Example example(int example) {
    TextPair text = text(example);
    return new Example(
        text,
        switch (labels.kind()) {
          case NONE -> Optional.empty();
          case CLASSES -> Optional.of(labels.names().get(classes[example]));
          case REGRESSION -> Optional.of(Double.toString(targets[example]));
        });
  }

  /** All examples, made as they are asked for. */
  public List<Example> examples() {
    return new View();
  }

  private final class View extends AbstractList<Example> implements RandomAccess {
    @Override
    public Example get(int index) {
      return example(index);
    }

    @Override
    public int size() {
      return texts.size();
    }
  }

  /** The first {@code count} examples, or all if there are not so many. */
  public Dataset first(int count) {
    BertologyException.check(
        count > 0, "%s: the first %d examples, expected 1 or more", name, count);
    return count >= size() ? this : select(example -> example < count);
  }

  /** The examples whose numbers are wanted, in the same order. Fails if none are. */
  public Dataset select(IntPredicate wanted) {
    int[] chosen = IntStream.range(0, size()).filter(wanted).toArray();
    return new Dataset(
        name,
        Arrays.stream(chosen).mapToObj(texts::get).toList(),
        labels,
        labels.kind() == Labels.Kind.CLASSES
            ? Arrays.stream(chosen).map(i -> classes[i]).toArray()
            : classes,
        labels.kind() == Labels.Kind.REGRESSION
            ? Arrays.stream(chosen).mapToDouble(i -> targets[i]).toArray()
            : targets,
        skippedRows);
  }

  /**
   * The same examples with their classes in another order: that of a model, say, which need not be
   * the task's. Fails if a class of this set has no namesake, in any case, among {@code others}.
   */
  public Dataset withClassesOf(Labels others) {
    requireKind(Labels.Kind.CLASSES);
    Map<String, Integer> places =
        LabelText.classes(labels.names(), others.names(), LabelText.Form.NAMES);
    for (String label : labels.names()) {
      BertologyException.check(
          places.containsKey(label), "%s: no class \"%s\" among the %s", name, label, others);
    }
    int[] moved = Arrays.stream(classes).map(c -> places.get(labels.names().get(c))).toArray();
    return new Dataset(name, texts, others, moved, targets, skippedRows);
  }

  /** The same examples under another name. */
  public Dataset named(String other) {
    return new Dataset(other, texts, labels, classes, targets, skippedRows);
  }

  private int checked(int example) {
    BertologyException.check(
        example >= 0 && example < size(),
        "%s has no example %d: it has 0 to %d",
        name,
        example,
        size() - 1);
    return example;
  }

  private void requireKind(Labels.Kind wanted) {
    BertologyException.check(
        labels.kind() == wanted, "%s: labels are %s, expected %s", name, labels, wanted);
  }

  @Override
  public String toString() {
    return String.format("%s, %d examples, labels: %s", name, size(), labels);
  }
}
