package org.bertology4j;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.SortedSet;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;

/**
 * A set of attention heads, by layer, in their original numbers: layers and heads count from 0,
 * whatever has been pruned. Immutable.
 *
 * <p>As text: {@code 0:1,3;2:5} is heads 1 and 3 of layer 0 and head 5 of layer 2.
 */
public final class Heads {
  private static final Heads NONE = new Heads(new TreeMap<>());

  private final TreeMap<Integer, TreeSet<Integer>> byLayer;

  private Heads(TreeMap<Integer, TreeSet<Integer>> byLayer) {
    this.byLayer = byLayer;
  }

  /** One head. */
  public record Head(int layer, int head) implements Comparable<Head> {
    @Override
    public int compareTo(Head other) {
      return layer != other.layer
          ? Integer.compare(layer, other.layer)
          : Integer.compare(head, other.head);
    }

    @Override
    public String toString() {
      return layer + ":" + head;
    }
  }

  /** No heads. */
  public static Heads none() {
    return NONE;
  }

  /** These heads. Fails if one is negative or named twice. */
  public static Heads of(Collection<Head> heads) {
    TreeMap<Integer, TreeSet<Integer>> byLayer = new TreeMap<>();
    for (Head head : heads) {
      add(byLayer, head.layer(), head.head());
    }
    return new Heads(byLayer);
  }

  /** The heads of each layer, as {@code pruned_heads} of Hugging Face's configuration has them. */
  public static Heads of(Map<Integer, ? extends Collection<Integer>> heads) {
    TreeMap<Integer, TreeSet<Integer>> byLayer = new TreeMap<>();
    heads.forEach((layer, ofLayer) -> ofLayer.forEach(head -> add(byLayer, layer, head)));
    return new Heads(byLayer);
  }

  /** Reads {@code 0:1,3;2:5}; blank text is no heads. */
  public static Heads parse(String text) {
    TreeMap<Integer, TreeSet<Integer>> byLayer = new TreeMap<>();
    for (String part : text.split(";", -1)) {
      if (part.isBlank()) {
        continue;
      }
      String[] sides = part.split(":", -1);
      BertologyException.check(
          sides.length == 2, "heads \"%s\": \"%s\" is not layer:head,head", text, part.strip());
      int layer = number(text, sides[0]);
      for (String head : sides[1].split(",", -1)) {
        add(byLayer, layer, number(text, head));
      }
    }
    return new Heads(byLayer);
  }

  private static int number(String text, String part) {
    try {
      return Integer.parseInt(part.strip());
    } catch (NumberFormatException e) {
      throw BertologyException.invalid("heads \"%s\": \"%s\" is not a number", text, part.strip());
    }
  }

  private static void add(TreeMap<Integer, TreeSet<Integer>> byLayer, int layer, int head) {
    BertologyException.check(
        layer >= 0 && head >= 0, "head %d of layer %d: numbers count from 0", head, layer);
    BertologyException.check(
        byLayer.computeIfAbsent(layer, l -> new TreeSet<>()).add(head),
        "head %d of layer %d is named twice",
        head,
        layer);
  }

  /** Whether the head is in the set. */
  public boolean contains(int layer, int head) {
    return byLayer.getOrDefault(layer, new TreeSet<>()).contains(head);
  }

  /** The layers that have heads in the set, ascending. */
  public SortedSet<Integer> layers() {
    return Collections.unmodifiableSortedSet(byLayer.navigableKeySet());
  }

  /** The heads of a layer, ascending. */
  public SortedSet<Integer> of(int layer) {
    return Collections.unmodifiableSortedSet(byLayer.getOrDefault(layer, new TreeSet<>()));
  }

  /** All heads, by layer, then by head. */
  public List<Head> list() {
    List<Head> all = new ArrayList<>();
    byLayer.forEach((layer, heads) -> heads.forEach(head -> all.add(new Head(layer, head))));
    return all;
  }

  /** How many there are. */
  public int size() {
    return byLayer.values().stream().mapToInt(TreeSet::size).sum();
  }

  /** Whether there are none. */
  public boolean isEmpty() {
    return size() == 0;
  }

  /** These heads and those. */
  public Heads plus(Heads others) {
    TreeSet<Head> all = new TreeSet<>(list());
    all.addAll(others.list());
    return of(all);
  }

  /** These heads without those. */
  public Heads minus(Heads others) {
    TreeSet<Head> rest = new TreeSet<>(list());
    others.list().forEach(rest::remove);
    return of(rest);
  }

  /** Throws unless every head exists in a model with so many layers and heads. */
  public void checkWithin(int layers, int heads) {
    for (Head head : list()) {
      BertologyException.check(
          head.layer() < layers,
          "layer %d does not exist: the model has layers 0 to %d",
          head.layer(),
          layers - 1);
      BertologyException.check(
          head.head() < heads,
          "head %d of layer %d does not exist: the model has heads 0 to %d",
          head.head(),
          head.layer(),
          heads - 1);
    }
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof Heads heads && list().equals(heads.list());
  }

  @Override
  public int hashCode() {
    return list().hashCode();
  }

  /** Such as {@code 0:1,3;2:5}. */
  @Override
  public String toString() {
    return byLayer.entrySet().stream()
        .filter(entry -> !entry.getValue().isEmpty())
        .map(
            entry ->
                entry.getKey()
                    + ":"
                    + entry.getValue().stream()
                        .map(String::valueOf)
                        .collect(Collectors.joining(",")))
        .collect(Collectors.joining(";"));
  }
}
