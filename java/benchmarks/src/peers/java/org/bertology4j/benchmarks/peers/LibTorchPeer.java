package org.bertology4j.benchmarks.peers;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.bertology4j.checkpoint.Checkpoint;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.InferenceMode;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.global.torch;

/** LibTorch through JavaCPP: BERT written in its operations, with the same weights, eager. */
public final class LibTorchPeer implements Peer {
  /** Made by the service loader. */
  public LibTorchPeer() {}

  @Override
  public String name() {
    return Peers.LIBTORCH;
  }

  @Override
  public String description() {
    return "LibTorch through JavaCPP, org.bytedeco:pytorch " + version();
  }

  private static String version() {
    try {
      return Loader.getVersion("org.bytedeco", "pytorch");
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
  }

  @Override
  public Prepared prepare(PeerTask task) {
    torch.set_num_threads(task.threads());
    LibTorchBert model;
    try (Checkpoint checkpoint = Checkpoint.open(Path.of(task.file(PeerTask.FOLDER)))) {
      model = new LibTorchBert(checkpoint);
    }
    return switch (task.kind()) {
      case FORWARD -> new Forward(model, task.padded().stream().map(Inputs::of).toList());
      case IMPORTANCE ->
          new Importance(model, task.padded().stream().map(Inputs::of).toList(), task.labels());
      default -> throw new UnsupportedOperationException(task.kind() + " by LibTorch");
    };
  }

  /** A batch as tensors. */
  record Inputs(int texts, Tensor ids, Tensor keys, boolean full) {
    static Inputs of(PeerTask.Padded batch) {
      Tensor ids = longs(batch.ids(), batch.shape());
      // Added to scores: 0 for tokens, very negative for what fills texts up.
      float[] added = new float[batch.mask().length];
      for (int i = 0; i < added.length; i++) {
        added[i] = batch.mask()[i] == 1 ? 0 : -1e30f;
      }
      Tensor keys = floats(added, batch.texts(), 1, 1, batch.length());
      return new Inputs(batch.texts(), ids, keys, batch.isFull());
    }
  }

  private record Forward(LibTorchBert model, List<Inputs> batches) implements Prepared {
    @Override
    public void run() {
      for (Inputs batch : batches) {
        try (PointerScope scope = new PointerScope();
            InferenceMode mode = new InferenceMode()) {
          model.lastState(batch);
        }
      }
    }

    @Override
    public float[] outputs() {
      try (PointerScope scope = new PointerScope();
          InferenceMode mode = new InferenceMode()) {
        return array(model.lastState(batches.get(0)));
      }
    }
  }

  private record Importance(LibTorchBert model, List<Inputs> batches, List<Integer> labels)
      implements Prepared {
    @Override
    public void run() {
      outputs();
    }

    @Override
    public float[] outputs() {
      float[] sums = new float[model.layers() * model.heads()];
      int first = 0;
      for (Inputs batch : batches) {
        long[] ofBatch =
            labels.subList(first, first + batch.texts()).stream()
                .mapToLong(Integer::longValue)
                .toArray();
        try (PointerScope scope = new PointerScope()) {
          Tensor mask =
              torch
                  .ones(model.layers(), batch.texts(), model.heads(), 1, 1)
                  .set_requires_grad(true);
          Tensor logits = model.logits(batch, mask);
          Tensor loss = torch.cross_entropy_loss(logits, longs(ofBatch, batch.texts()));
          loss.mul(new Scalar((double) batch.texts())).backward();
          float[] gradients = array(mask.grad());
          for (int i = 0; i < gradients.length; i++) {
            int layer = i / (batch.texts() * model.heads());
            sums[layer * model.heads() + i % model.heads()] += Math.abs(gradients[i]);
          }
        }
        first += batch.texts();
      }
      for (int i = 0; i < sums.length; i++) {
        sums[i] /= labels.size();
      }
      return sums;
    }
  }

  static Tensor longs(long[] values, long... shape) {
    try (LongPointer memory = new LongPointer(values)) {
      return copy(memory, torch.ScalarType.Long, shape);
    }
  }

  static Tensor floats(float[] values, long... shape) {
    try (FloatPointer memory = new FloatPointer(values)) {
      return copy(memory, torch.ScalarType.Float, shape);
    }
  }

  private static Tensor copy(Pointer memory, torch.ScalarType type, long... shape) {
    return torch.from_blob(memory, shape, new TensorOptions(type)).clone();
  }

  private static float[] array(Tensor tensor) {
    float[] values = new float[(int) tensor.numel()];
    Tensor dense = tensor.contiguous();
    new FloatPointer(dense.data_ptr()).get(values);
    return values;
  }
}
