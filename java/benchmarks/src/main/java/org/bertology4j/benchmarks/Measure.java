package org.bertology4j.benchmarks;

/** What the numbers of a benchmark are, so that those of different runs can be compared. */
enum Measure {
  /** The part of the machine's matrix-product speed that was reached. */
  SHARE_OF_PEAK("share of the matrix-product peak", true),
  /** How long it took, as what the machine's matrix products could have done meanwhile. */
  PEAK_GFLOP("GFLOP of matrix products in the same time", false),
  /** A number without unit. */
  RATIO("ratio", true),
  /** The part of what the nearer one of the machine's two limits allows: products or copies. */
  SHARE_OF_BOUND("share of the nearer bound, products or copies", true);

  private final String text;
  private final boolean higherIsBetter;

  Measure(String text, boolean higherIsBetter) {
    this.text = text;
    this.higherIsBetter = higherIsBetter;
  }

  boolean higherIsBetter() {
    return higherIsBetter;
  }

  @Override
  public String toString() {
    return text;
  }
}
