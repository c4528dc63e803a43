package org.bertology4j;

import java.util.List;
import java.util.Optional;

/** How a batch is run: what is captured, and which heads count. Immutable. */
public final class RunOptions {
  private final List<Capture> captures;
  private final Optional<HeadMask> headMask;
  private final boolean maskedGradients;
  private final Optional<HeadGradientAccumulator> accumulator;

  private RunOptions(
      List<Capture> captures,
      Optional<HeadMask> headMask,
      boolean maskedGradients,
      Optional<HeadGradientAccumulator> accumulator) {
    this.captures = captures;
    this.headMask = headMask;
    this.maskedGradients = maskedGradients;
    this.accumulator = accumulator;
  }

  /** A run that captures these, with the model's own head mask. */
  public static RunOptions capturing(Capture... captures) {
    return new RunOptions(List.of(captures), Optional.empty(), false, Optional.empty());
  }

  /** The same with this head mask instead of the model's own. */
  public RunOptions headMask(HeadMask mask) {
    return new RunOptions(captures, Optional.of(mask), maskedGradients, accumulator);
  }

  /** The same with the gradients of masked heads too, which otherwise cost nothing and are 0. */
  public RunOptions maskedGradients() {
    return new RunOptions(captures, headMask, true, accumulator);
  }

  /**
   * The same, and the run adds its examples' head gradients to these sums. The batch needs labels.
   */
  public RunOptions accumulating(HeadGradientAccumulator sums) {
    return new RunOptions(captures, headMask, maskedGradients, Optional.of(sums));
  }

  /** What is captured. */
  public List<Capture> captures() {
    return captures;
  }

  /** The head mask of this run; empty for the model's own. */
  public Optional<HeadMask> headMask() {
    return headMask;
  }

  /** What the run adds its head gradients to. */
  public Optional<HeadGradientAccumulator> accumulator() {
    return accumulator;
  }

  /** Whether masked heads get gradients. */
  public boolean hasMaskedGradients() {
    return maskedGradients;
  }
}
