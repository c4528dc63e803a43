package org.bertology4j.text;

import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeSet;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/** What labels mean that are given as text. */
final class LabelText {
  private static final Pattern CLASS_NUMBER = Pattern.compile("\\d{1,4}");
  private static final Pattern NUMBER =
      Pattern.compile("[+-]?(\\d+\\.?\\d*|\\.\\d+)([eE][+-]?\\d{1,3})?");

  private LabelText() {}

  /** How the label of a class may be written. */
  enum Form {
    /** Its name. */
    EXACT,
    /** Its name, or its name in any case: whichever fits all labels of the file. */
    NAMES,
    /** Its name, its name in any case, or its number: whichever fits all labels of the file. */
    LENIENT
  }

  /** Whether it is a decimal number, in a form that does not depend on the language. */
  static boolean isNumber(String label) {
    return NUMBER.matcher(label).matches() && Double.isFinite(Double.parseDouble(label));
  }

  /** The class of each label that has one. */
  static Map<String, Integer> classes(Collection<String> labels, List<String> names, Form form) {
    Map<String, Integer> exact = byName(labels, names, UnaryOperator.identity());
    if (form == Form.EXACT || exact.size() == labels.size()) {
      return exact;
    }
    Map<String, Integer> anyCase = byName(labels, names, name -> name.toLowerCase(Locale.ROOT));
    if (anyCase.size() == labels.size()) {
      return anyCase;
    }
    Map<String, Integer> numbers = form == Form.LENIENT ? byNumber(labels, names.size()) : Map.of();
    return numbers.size() == labels.size() ? numbers : exact;
  }

  private static Map<String, Integer> byNumber(Collection<String> labels, int classes) {
    Map<String, Integer> found = new HashMap<>();
    for (String label : labels) {
      if (CLASS_NUMBER.matcher(label).matches() && Integer.parseInt(label) < classes) {
        found.put(label, Integer.parseInt(label));
      }
    }
    return found;
  }

  private static Map<String, Integer> byName(
      Collection<String> labels, List<String> names, UnaryOperator<String> form) {
    Map<String, Integer> places = new HashMap<>();
    for (int i = 0; i < names.size(); i++) {
      if (places.put(form.apply(names.get(i)), i) != null) {
        return Map.of(); // Two names are the same in this form.
      }
    }
    Map<String, Integer> found = new HashMap<>();
    for (String label : labels) {
      Integer place = places.get(form.apply(label));
      if (place != null) {
        found.put(label, place);
      }
    }
    return found;
  }

  /**
   * What the labels are when nobody says: numbers of classes if all are whole numbers from 0, else
   * numbers if all are, else names of classes in alphabetical order.
   */
  static Labels infer(Collection<String> labels) {
    if (labels.stream().allMatch(label -> CLASS_NUMBER.matcher(label).matches())) {
      int last = labels.stream().mapToInt(Integer::parseInt).max().orElse(0);
      return Labels.classes(
          IntStream.rangeClosed(0, Math.max(last, 1)).mapToObj(Integer::toString).toList());
    }
    if (labels.stream().allMatch(LabelText::isNumber)) {
      return Labels.regression();
    }
    return Labels.classes(List.copyOf(new TreeSet<>(labels)));
  }
}
