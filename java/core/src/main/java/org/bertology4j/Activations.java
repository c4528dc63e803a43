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
 * BertologyException.Kind#INVALID_ARGUMENT}. Shapes are those of {@link Capture}. Safe for use from
 * many threads.
 */
public final class Activations implements AutoCloseable {
  private final Model model;
  private final Batch batch;
  private final NativeActivations memory;
  private final Runnable noLongerWatched = Resource.watch(this, "result of a run");
  private volatile boolean closed;
  private boolean pinned;

  Activations(Model model, Batch batch, NativeActivations memory) {
    this.model = model;
    this.batch = batch;
    this.memory = memory;
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

  private synchronized FloatTensor view(Capture capture, int layer, int example) {
    checkOpen();
    long[] view = new long[6];
    Native.check(
        bertology.bertology_activations_tensor(
            memory.handle(), capture.code(), layer, example, view));
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
    if (closed) {
      throw new BertologyException(
          BertologyException.Kind.CLOSED, "the activations of this run are closed");
    }
  }

  /** Ends all views; the memory goes to the model's next run. A second time does nothing. */
  @Override
  public synchronized void close() {
    if (closed) {
      return;
    }
    closed = true;
    noLongerWatched.run();
    if (!pinned) {
      model.giveBack(memory);
    }
  }
}
