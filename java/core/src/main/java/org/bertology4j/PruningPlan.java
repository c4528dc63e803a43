package org.bertology4j;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.bertology4j.internal.TorchRandom;

/**
 * Which heads to remove: an order of heads, how many of them go, and how many each layer keeps.
 * Immutable; nothing is changed by making one.
 */
public final class PruningPlan {
  private final List<Heads.Head> order;
  private final int globally;
  private final double ofEachLayer;
  private final int floor;

  private PruningPlan(List<Heads.Head> order, int globally, double ofEachLayer, int floor) {
    this.order = order;
    this.globally = globally;
    this.ofEachLayer = ofEachLayer;
    this.floor = floor;
  }

  /**
   * A plan over these heads, the first to go first; none go until {@link #remove} or one of its kin
   * says how many.
   */
  public static PruningPlan inOrder(List<Heads.Head> heads) {
    Heads.of(heads); // throws if one is named twice
    return new PruningPlan(List.copyOf(heads), 0, 0, 0);
  }

  /** A plan that removes exactly these heads. */
  public static PruningPlan of(Heads heads) {
    return inOrder(heads.list()).remove(heads.size());
  }

  /**
   * A plan over the heads that a model has now, in random order: the control that every ranking has
   * to beat. The order is {@code torch.randperm(n, generator=torch.Generator().manual_seed(seed))}
   * of the n heads, layer by layer, so that a Python script can draw the same.
   */
  public static PruningPlan random(Model model, long seed) {
    List<Heads.Head> heads = new ArrayList<>();
    for (int l = 0; l < model.config().numHiddenLayers(); l++) {
      for (int head : model.heads(l)) {
        heads.add(new Heads.Head(l, head));
      }
    }
    int[] order = new TorchRandom(seed).permutation(heads.size());
    return inOrder(Arrays.stream(order).mapToObj(heads::get).toList());
  }

  /** The same heads in the opposite order: the most important go first. */
  public PruningPlan reversed() {
    List<Heads.Head> opposite = new ArrayList<>(order);
    Collections.reverse(opposite);
    return new PruningPlan(List.copyOf(opposite), globally, ofEachLayer, floor);
  }

  /** Removes this many heads, wherever they are. */
  public PruningPlan remove(int heads) {
    BertologyException.check(
        heads >= 0 && heads <= order.size(), "remove %d heads of %d", heads, order.size());
    return new PruningPlan(order, heads, 0, floor);
  }

  /** Removes this fraction of the heads, wherever they are; rounded down. */
  public PruningPlan removeLowest(double fraction) {
    return remove(count(fraction, order.size()));
  }

  /** Removes this fraction of each layer's heads; rounded down. */
  public PruningPlan removeLowestOfEachLayer(double fraction) {
    count(fraction, 1);
    return new PruningPlan(order, 0, fraction, floor);
  }

  /**
   * Keeps at least this many of each layer's heads: where a layer has no more to give, the next in
   * order go.
   */
  public PruningPlan keepAtLeast(int heads) {
    BertologyException.check(heads >= 0, "keep at least %d heads", heads);
    return new PruningPlan(order, globally, ofEachLayer, heads);
  }

  /** That fraction of so many heads, rounded down. */
  static int count(double fraction, int heads) {
    BertologyException.check(
        fraction >= 0 && fraction <= 1, "fraction %s of the heads: expected 0 to 1", fraction);
    return (int) Math.floor(fraction * heads + 1e-9); // 0.7 * 10 is 7, whatever its last bit says
  }

  /** The heads in the order in which they go. */
  public List<Heads.Head> order() {
    return order;
  }

  /** The heads that go. */
  public Heads heads() {
    Map<Integer, Long> left =
        order.stream().collect(Collectors.groupingBy(Heads.Head::layer, Collectors.counting()));
    Map<Integer, Integer> quota = new HashMap<>();
    left.forEach((layer, count) -> quota.put(layer, count(ofEachLayer, count.intValue())));
    List<Heads.Head> gone = new ArrayList<>();
    for (Heads.Head head : order) {
      int layer = head.layer();
      if (ofEachLayer > 0 ? quota.get(layer) == 0 : gone.size() == globally) {
        continue;
      }
      if (left.get(layer) <= floor) {
        continue;
      }
      gone.add(head);
      left.merge(layer, -1L, Long::sum);
      quota.merge(layer, -1, Integer::sum);
    }
    return Heads.of(gone);
  }

  /** A mask of the model in which the heads that go have 0 and the others 1. */
  public HeadMask mask(ModelConfig config) {
    return HeadMask.without(heads(), config);
  }

  @Override
  public String toString() {
    return "remove " + heads();
  }
}
