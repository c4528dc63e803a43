package org.bertology4j;

import java.util.List;
import java.util.Optional;

/** How a batch is run: what is captured, and which heads count. Immutable. */
public final class RunOptions {
  private final List<Capture> captures;
  private final Optional<HeadMask> headMask;
  private final List<HeadMask> headMasks;
  private final boolean maskedGradients;
  private final Optional<HeadGradientAccumulator> accumulator;

  private RunOptions(
      List<Capture> captures,
      Optional<HeadMask> headMask,
      List<HeadMask> headMasks,
      boolean maskedGradients,
      Optional<HeadGradientAccumulator> accumulator) {
    this.captures = captures;
    this.headMask = headMask;
    this.headMasks = headMasks;
    this.maskedGradients = maskedGradients;
    this.accumulator = accumulator;
  }

  /** A run that captures these, with the model's own head mask. */
  public static RunOptions capturing(Capture... captures) {
    return new RunOptions(List.of(captures), Optional.empty(), List.of(), false, Optional.empty());
  }

  /** The same with this head mask instead of the model's own. */
  public RunOptions headMask(HeadMask mask) {
    return new RunOptions(captures, Optional.of(mask), List.of(), maskedGradients, accumulator);
  }

  /**
   * The same under each of these head masks: a sweep, which gives for each what a run with it would
   * ({@link Activations#ofMask}), but computes what masks have in common once. It can capture
   * {@link Capture#LOGITS}, {@link Capture#POOLER_OUTPUT}, {@link Capture#LOSS}, {@link
   * Capture#TOKEN_LOSSES} and {@link Capture#TOKEN_PREDICTIONS}.
   *
   * @param masks at least one, in any order, also the same more than once
   */
  public RunOptions headMasks(List<HeadMask> masks) {
    BertologyException.check(!masks.isEmpty(), "a sweep needs at least one head mask");
    return new RunOptions(
        captures, Optional.empty(), List.copyOf(masks), maskedGradients, accumulator);
  }

  /** The same with the gradients of masked heads too, which otherwise cost nothing and are 0. */
  public RunOptions maskedGradients() {
    return new RunOptions(captures, headMask, headMasks, true, accumulator);
  }

  /**
   * The same, and the run adds its examples' head gradients to these sums. The batch needs labels.
   */
  public RunOptions accumulating(HeadGradientAccumulator sums) {
    return new RunOptions(captures, headMask, headMasks, maskedGradients, Optional.of(sums));
  }

  /** What is captured. */
  public List<Capture> captures() {
    return captures;
  }

  /** The head mask of this run; empty for the model's own. */
  public Optional<HeadMask> headMask() {
    return headMask;
  }

  /** The head masks of a sweep; empty if the run is none. */
  public List<HeadMask> headMasks() {
    return headMasks;
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
