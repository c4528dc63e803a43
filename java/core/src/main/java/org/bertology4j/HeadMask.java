package org.bertology4j;

import java.util.Arrays;
import java.util.List;

/**
 * A value in [0, 1] for each head, [layers, heads], by which the head's output is multiplied. A
 * head with 0 costs nothing. Immutable.
 */
public final class HeadMask {
  private final int layers;
  private final int heads;
  private final float[] values;

  private HeadMask(int layers, int heads, float[] values) {
    this.layers = layers;
    this.heads = heads;
    this.values = values;
  }

  /** All heads count in full. */
  public static HeadMask ones(int layers, int heads) {
    float[] values = new float[layers * heads];
    Arrays.fill(values, 1f);
    return new HeadMask(layers, heads, values);
  }

  /** All heads of a model of this shape count in full. */
  public static HeadMask ones(ModelConfig config) {
    return ones(config.numHiddenLayers(), config.numAttentionHeads());
  }

  /** These heads do not count, the others in full. */
  public static HeadMask without(Heads masked, ModelConfig config) {
    masked.checkWithin(config.numHiddenLayers(), config.numAttentionHeads());
    HeadMask mask = ones(config);
    for (Heads.Head head : masked.list()) {
      mask.values[head.layer() * mask.heads + head.head()] = 0f;
    }
    return mask;
  }

  /** Values by layer and head. */
  public static HeadMask of(float[][] byLayer) {
    BertologyException.check(
        byLayer.length > 0 && byLayer[0].length > 0, "a head mask needs layers and heads");
    HeadMask mask = ones(byLayer.length, byLayer[0].length);
    for (int l = 0; l < mask.layers; l++) {
      BertologyException.check(
          byLayer[l].length == mask.heads,
          "head mask: layer %d has %d values, layer 0 has %d",
          l,
          byLayer[l].length,
          mask.heads);
      for (int h = 0; h < mask.heads; h++) {
        mask.values[l * mask.heads + h] = checked(l, h, byLayer[l][h]);
      }
    }
    return mask;
  }

  private static float checked(int layer, int head, float value) {
    BertologyException.check(
        value >= 0 && value <= 1,
        "head mask: head %d of layer %d has %s, expected 0 to 1",
        head,
        layer,
        value);
    return value;
  }

  /** The same with another value for one head. */
  public HeadMask with(int layer, int head, float value) {
    checkHead(layer, head);
    HeadMask changed = new HeadMask(layers, heads, values.clone());
    changed.values[layer * heads + head] = checked(layer, head, value);
    return changed;
  }

  /** The same with these heads at 1. */
  HeadMask unmasking(Heads unmasked) {
    HeadMask changed = new HeadMask(layers, heads, values.clone());
    for (Heads.Head head : unmasked.list()) {
      changed.values[head.layer() * heads + head.head()] = 1f;
    }
    return changed;
  }

  private void checkHead(int layer, int head) {
    BertologyException.check(
        layer >= 0 && layer < layers && head >= 0 && head < heads,
        "head %d of layer %d is not in a head mask of %d layers of %d heads",
        head,
        layer,
        layers,
        heads);
  }

  /** The value of a head. */
  public float get(int layer, int head) {
    checkHead(layer, head);
    return values[layer * heads + head];
  }

  /** Number of layers. */
  public int layers() {
    return layers;
  }

  /** Number of heads of each layer. */
  public int heads() {
    return heads;
  }

  /** The heads with value 0. */
  public Heads masked() {
    var masked = new java.util.ArrayList<Heads.Head>();
    for (int l = 0; l < layers; l++) {
      for (int h = 0; h < heads; h++) {
        if (values[l * heads + h] == 0f) {
          masked.add(new Heads.Head(l, h));
        }
      }
    }
    return Heads.of(masked);
  }

  /** Whether all heads count in full. */
  public boolean isOnes() {
    for (float value : values) {
      if (value != 1f) {
        return false;
      }
    }
    return true;
  }

  /** A copy of the values, by layer and head. */
  public float[][] toArray() {
    float[][] rows = new float[layers][];
    for (int l = 0; l < layers; l++) {
      rows[l] = Arrays.copyOfRange(values, l * heads, (l + 1) * heads);
    }
    return rows;
  }

  /** The values, by layer, then by head; not to be changed. */
  float[] valuesArray() {
    return values;
  }

  /** The values of masks of one shape, mask by mask. */
  static float[] packed(List<HeadMask> masks) {
    int size = masks.get(0).values.length;
    long all = (long) size * masks.size();
    BertologyException.check(
        all <= Integer.MAX_VALUE - 8, "%d head masks of %d heads are too many", masks.size(), size);
    float[] packed = new float[(int) all];
    for (int i = 0; i < masks.size(); i++) {
      System.arraycopy(masks.get(i).values, 0, packed, i * size, size);
    }
    return packed;
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof HeadMask mask
        && mask.layers == layers
        && mask.heads == heads
        && Arrays.equals(mask.values, values);
  }

  @Override
  public int hashCode() {
    return Arrays.hashCode(values);
  }

  @Override
  public String toString() {
    return Arrays.deepToString(toArray());
  }
}
