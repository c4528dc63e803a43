package org.bertology4j;

import org.bertology4j.internal.Native;
import org.bertology4j.internal.NativeActivations;
import org.bertology4j.internal.Resource;
import org.bertology4j.internal.binding.bertology;

/**
 * The results of a run: views of what was captured, in native memory. Close them when they have
 * been read: the memory is then used for the next run.
 *
 * <p>Methods take the number of an example in the batch; those without one give the whole batch,
 * its tokens packed one example behind the other. Asking for what was not captured is an {@link
 * BertologyException.Kind#INVALID_ARGUMENT}. Shapes are those of {@link Capture}. The results of a
 * sweep over head masks are seen mask by mask, with {@link #ofMask}. Safe for use from many
 * threads.
 */
public final class Activations implements AutoCloseable {
  private static final int NO_MASK = -1;

  private final Model model;
  private final Batch batch;
  private final NativeActivations memory;
  private final int masks;
  private final int mask;

  /** What has the memory: of one mask's results, those of the sweep; else itself. */
  private final Activations owner;

  private final Runnable noLongerWatched;
  private volatile boolean closed;
  private boolean pinned;

  /**
   * Results of a run.
   *
   * @param masks those of a sweep; 0 if it was none
   */
  Activations(Model model, Batch batch, NativeActivations memory, int masks) {
    this.model = model;
    this.batch = batch;
    this.memory = memory;
    this.masks = masks;
    this.mask = NO_MASK;
    this.owner = this;
    this.noLongerWatched = Resource.watch(this, "result of a run");
  }

  private Activations(Activations sweep, int mask) {
    this.model = sweep.model;
    this.batch = sweep.batch;
    this.memory = sweep.memory;
    this.masks = sweep.masks;
    this.mask = mask;
    this.owner = sweep;
    this.noLongerWatched = () -> {};
  }

  /** How many head masks a sweep had; 0 if the run was none. */
  public int masks() {
    return mask == NO_MASK ? masks : 0;
  }

  /**
   * The results of a sweep under one of its head masks, like those of a run with that mask. A view:
   * it ends with the sweep's own, and closing it does nothing.
   *
   * @param index of the mask in {@link RunOptions#headMasks()}
   */
  public Activations ofMask(int index) {
    checkOpen();
    BertologyException.check(masks() > 0, "the run was no sweep over head masks");
    BertologyException.check(
        index >= 0 && index < masks,
        "head mask %d does not exist: the sweep had masks 0 to %d",
        index,
        masks - 1);
    return new Activations(this, index);
  }

  /** The batch that was run. */
  public Batch batch() {
    return batch;
  }

  /** The classifier's outputs, [examples, labels]. */
  public FloatTensor logits() {
    return view(Capture.LOGITS, 0, -1);
  }

  /** The classifier's outputs for an example, [labels]. */
  public FloatTensor logits(int example) {
    return view(Capture.LOGITS, 0, checked(example));
  }

  /** The language model's outputs for an example, [n, vocabulary]. */
  public FloatTensor tokenLogits(int example) {
    return view(Capture.TOKEN_LOGITS, 0, checked(example));
  }

  /** The cross entropies of an example's tokens, [n]; 0 where there is nothing to predict. */
  public FloatTensor tokenLosses(int example) {
    return view(Capture.TOKEN_LOSSES, 0, checked(example));
  }

  /** For each token of an example the id that its logits predict, [n]. */
  public FloatTensor tokenPredictions(int example) {
    return view(Capture.TOKEN_PREDICTIONS, 0, checked(example));
  }

  /** What the classifier sees, [examples, D]. */
  public FloatTensor poolerOutput() {
    return view(Capture.POOLER_OUTPUT, 0, -1);
  }

  /** What the classifier sees of an example, [D]. */
  public FloatTensor poolerOutput(int example) {
    return view(Capture.POOLER_OUTPUT, 0, checked(example));
  }

  /** A hidden state of the whole batch, [tokens, D]; layer 0 is the embeddings. */
  public FloatTensor hiddenState(int layer) {
    return view(Capture.HIDDEN_STATES, layer, -1);
  }

  /** A hidden state of an example, [n, D]; layer 0 is the embeddings. */
  public FloatTensor hiddenState(int layer, int example) {
    return view(Capture.HIDDEN_STATES, layer, checked(example));
  }

  /** GPT-2's last layer before the final norm for an example, [n, D]. */
  public FloatTensor lastBlockState(int example) {
    return view(Capture.LAST_BLOCK_STATE, 0, checked(example));
  }

  /** The attention maps of an example, [K, n, n]: the layer's heads in ascending order. */
  public FloatTensor attention(int layer, int example) {
    return view(Capture.ATTENTIONS, layer, checked(example));
  }

  /**
   * The attention maps of all examples, one example's [K, n, n] behind the other, as one vector.
   */
  public FloatTensor attention(int layer) {
    return view(Capture.ATTENTIONS, layer, -1);
  }

  /** The entropies of an example's attention, [K, n]. */
  public FloatTensor attentionEntropy(int layer, int example) {
    return view(Capture.ATTENTION_ENTROPIES, layer, checked(example));
  }

  /** The outputs of the heads for an example, [n, K, d]. */
  public FloatTensor headOutput(int layer, int example) {
    return view(Capture.HEAD_OUTPUTS, layer, checked(example));
  }

  /** The losses, [examples]. */
  public FloatTensor loss() {
    return view(Capture.LOSS, 0, -1);
  }

  /** The heads' gradients, [examples, L, H]. */
  public FloatTensor headGradients() {
    return view(Capture.HEAD_GRADIENTS, 0, -1);
  }

  /** The heads' gradients with absolute values taken by token, [examples, L, H]. */
  public FloatTensor tokenHeadGradients() {
    return view(Capture.TOKEN_HEAD_GRADIENTS, 0, -1);
  }

  /** The gradients with respect to the heads' outputs for an example, [n, K, d]. */
  public FloatTensor headOutputGradient(int layer, int example) {
    return view(Capture.HEAD_OUTPUT_GRADIENTS, layer, checked(example));
  }

  /** The gradients with respect to an example's attention maps, [K, n, n]. */
  public FloatTensor attentionGradient(int layer, int example) {
    return view(Capture.ATTENTION_GRADIENTS, layer, checked(example));
  }

  /** The gradient with respect to a hidden state of an example, [n, D]. */
  public FloatTensor hiddenStateGradient(int layer, int example) {
    return view(Capture.HIDDEN_STATE_GRADIENTS, layer, checked(example));
  }

  /** Any capture of an example; {@code layer} is ignored by captures without layers. */
  public FloatTensor get(Capture capture, int layer, int example) {
    return view(capture, layer, checked(example));
  }

  private int checked(int example) {
    BertologyException.check(
        example >= 0 && example < batch.examples(),
        "example %d does not exist: the batch has examples 0 to %d",
        example,
        batch.examples() - 1);
    return example;
  }

  private FloatTensor view(Capture capture, int layer, int example) {
    BertologyException.check(
        masks() == 0, "the run was a sweep over %d head masks: ask ofMask(...) for one", masks);
    FloatTensor tensor = owner.tensor(capture, layer, indexOf(example));
    return mask != NO_MASK && example < 0 ? tensor.slice(mask) : tensor;
  }

  /** The native number of an example. */
  private int indexOf(int example) {
    return mask == NO_MASK || example < 0 ? example : mask * batch.examples() + example;
  }

  private synchronized FloatTensor tensor(Capture capture, int layer, int index) {
    checkOpen();
    long[] view = new long[6];
    Native.check(
        bertology.bertology_activations_tensor(
            memory.handle(), capture.code(), layer, index, view));
    long[] shape = new long[(int) view[2]];
    System.arraycopy(view, 3, shape, 0, shape.length);
    return new FloatTensor(this, memory, view[0], shape);
  }

  /** From now on a buffer into the memory exists: it may not be reused. */
  synchronized void pinMemory() {
    checkOpen();
    pinned = true;
  }

  void checkOpen() {
    if (owner.closed) {
      throw new BertologyException(
          BertologyException.Kind.CLOSED, "the activations of this run are closed");
    }
  }

  /** Ends all views; the memory goes to the model's next run. A second time does nothing. */
  @Override
  public synchronized void close() {
    if (closed || owner != this) {
      return;
    }
    closed = true;
    noLongerWatched.run();
    if (!pinned) {
      model.giveBack(memory);
    }
  }
}
