package org.bertology4j.text;

import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig;

/** What the labels of a data set are: none, classes with names in an order, or numbers. */
public final class Labels {
  /** The three kinds. */
  public enum Kind {
    /** The examples have no labels. */
    NONE,
    /** Each example belongs to one class. */
    CLASSES,
    /** Each example has a number. */
    REGRESSION
  }

  private static final Labels NONE = new Labels(Kind.NONE, List.of());
  private static final Labels REGRESSION = new Labels(Kind.REGRESSION, List.of());

  private final Kind kind;
  private final List<String> names;

  private Labels(Kind kind, List<String> names) {
    this.kind = kind;
    this.names = names;
  }

  /** No labels. */
  public static Labels none() {
    return NONE;
  }

  /** Numbers. */
  public static Labels regression() {
    return REGRESSION;
  }

  /** Classes with these names, in the order of the classifier's outputs. */
  public static Labels classes(List<String> names) {
    BertologyException.check(names.size() >= 2, "classes are %s, expected two or more", names);
    BertologyException.check(
        new HashSet<>(names).size() == names.size(), "classes %s: a name is there twice", names);
    return new Labels(Kind.CLASSES, List.copyOf(names));
  }

  /** Classes with these names, in the order of the classifier's outputs. */
  public static Labels classes(String... names) {
    return classes(List.of(names));
  }

  /** What the classifier of a model predicts. */
  public static Labels of(ModelConfig config) {
    return config.regression() ? REGRESSION : classes(config.labels());
  }

  /** Which kind it is. */
  public Kind kind() {
    return kind;
  }

  /** The names of the classes, in order; empty unless they are {@link Kind#CLASSES}. */
  public List<String> names() {
    return names;
  }

  /** Number of classes; 1 for numbers, 0 for none: how many outputs a classifier needs. */
  public int count() {
    return kind == Kind.REGRESSION ? 1 : names.size();
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof Labels labels && kind == labels.kind && names.equals(labels.names);
  }

  @Override
  public int hashCode() {
    return 31 * kind.hashCode() + names.hashCode();
  }

  /** Such as {@code classes [no, yes]}, {@code regression} or {@code none}. */
  @Override
  public String toString() {
    return kind == Kind.CLASSES ? "classes " + names : kind.name().toLowerCase(Locale.ROOT);
  }
}
