package org.bertology4j;

import java.util.Arrays;

/**
 * What the gradients of heads add up to over examples, in double precision: with g the gradient of
 * an example's loss with respect to a head's mask (Michel, Levy and Neubig 2019), and g_i the part
 * of it that token i adds, for each head the sums of g, |g|, g squared and |g_i|. Immutable. Pruned
 * heads have sums of 0, and so have masked ones in runs without {@link RunOptions#maskedGradients}.
 */
public final class HeadGradientSums {
  /** Numbers of a head, in the order of the native library. */
  private enum Sum {
    SIGNED,
    ABSOLUTE,
    SQUARED,
    TOKEN_ABSOLUTE
  }

  private final int layers;
  private final int heads;
  private final double[] values;
  private final long examples;
  private final long tokens;

  /** Takes over values: [layers, heads, sums]. */
  HeadGradientSums(int layers, int heads, double[] values, long examples, long tokens) {
    this.layers = layers;
    this.heads = heads;
    this.values = values;
    this.examples = examples;
    this.tokens = tokens;
  }

  /** Sums over no example, all 0, of a model with so many layers and heads. */
  public static HeadGradientSums none(int layers, int heads) {
    BertologyException.check(
        layers > 0 && heads > 0, "sums of %d layers of %d heads", layers, heads);
    return new HeadGradientSums(layers, heads, new double[length(layers, heads)], 0, 0);
  }

  /** Numbers of all heads. */
  static int length(int layers, int heads) {
    return Math.multiplyExact(Math.multiplyExact(layers, heads), Sum.values().length);
  }

  /** The sums over the examples of both, such as those of two devices. */
  public HeadGradientSums plus(HeadGradientSums other) {
    BertologyException.check(
        other.layers == layers && other.heads == heads,
        "sums of %d layers of %d heads cannot be added to those of %d layers of %d heads",
        other.layers,
        other.heads,
        layers,
        heads);
    double[] sums = values.clone();
    Arrays.setAll(sums, i -> values[i] + other.values[i]);
    return new HeadGradientSums(
        layers, heads, sums, examples + other.examples, tokens + other.tokens);
  }

  /** Number of layers. */
  public int layers() {
    return layers;
  }

  /** Number of heads that each layer had at first. */
  public int heads() {
    return heads;
  }

  /** Number of examples that were added up. */
  public long examples() {
    return examples;
  }

  /** Number of tokens that these have. */
  public long tokens() {
    return tokens;
  }

  /** Sums of g, [layers, heads]. */
  public double[][] signed() {
    return of(Sum.SIGNED);
  }

  /** Sums of |g|, [layers, heads]. */
  public double[][] absolute() {
    return of(Sum.ABSOLUTE);
  }

  /** Sums of g squared, [layers, heads]. */
  public double[][] squared() {
    return of(Sum.SQUARED);
  }

  /** Sums of |g_i| over examples and their tokens, [layers, heads]. */
  public double[][] tokenAbsolute() {
    return of(Sum.TOKEN_ABSOLUTE);
  }

  private double[][] of(Sum sum) {
    double[][] result = new double[layers][heads];
    for (int l = 0; l < layers; l++) {
      for (int h = 0; h < heads; h++) {
        result[l][h] = values[(l * heads + h) * Sum.values().length + sum.ordinal()];
      }
    }
    return result;
  }

  @Override
  public String toString() {
    return String.format(
        "gradients of %d layers of %d heads over %d examples, %d tokens",
        layers, heads, examples, tokens);
  }
}
