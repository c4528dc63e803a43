package org.bertology4j.benchmarks.peers;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.HashMap;
import java.util.Map;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig;
import org.bertology4j.checkpoint.Checkpoint;
import org.bertology4j.checkpoint.StoredTensor;
import org.bertology4j.checkpoint.StoredType;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;

/** BERT in LibTorch's operations. */
final class LibTorchBert {
  private final ModelConfig config;
  private final Map<String, Tensor> weights = new HashMap<>();

  LibTorchBert(Checkpoint checkpoint) {
    config = checkpoint.config();
    for (StoredTensor tensor : checkpoint.tensors().values()) {
      BertologyException.check(
          tensor.type() == StoredType.FLOAT32, "%s is not float32", tensor.name());
      ByteBuffer bytes =
          ByteBuffer.allocateDirect((int) tensor.bytes()).order(ByteOrder.LITTLE_ENDIAN);
      checkpoint.read(tensor, bytes);
      float[] values = new float[(int) tensor.bytes() / Float.BYTES];
      bytes.flip().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values);
      long[] shape = tensor.shape().stream().mapToLong(Long::longValue).toArray();
      weights.put(tensor.name(), LibTorchPeer.floats(values, shape));
    }
    // One product for queries, keys and values, as an optimised program would have it.
    for (int layer = 0; layer < layers(); layer++) {
      for (String kind : new String[] {"weight", "bias"}) {
        String self = "encoder.layer." + layer + ".attention.self.";
        TensorVector parts =
            new TensorVector(
                weight(self + "query." + kind),
                weight(self + "key." + kind),
                weight(self + "value." + kind));
        weights.put(self + "all." + kind, torch.cat(parts, 0));
      }
    }
  }

  int layers() {
    return config.numHiddenLayers();
  }

  int heads() {
    return config.numAttentionHeads();
  }

  private Tensor weight(String name) {
    BertologyException.check(weights.containsKey(name), "the model has no %s", name);
    return weights.get(name);
  }

  /** The last hidden states. [texts, length, hidden] */
  Tensor lastState(LibTorchPeer.Inputs batch) {
    Tensor state = embeddings(batch);
    for (int layer = 0; layer < layers(); layer++) {
      state = layer(layer, state, batch, new TensorOptional());
    }
    return state;
  }

  /** The classifier's outputs; the mask is [layers, texts, heads, 1, 1]. */
  Tensor logits(LibTorchPeer.Inputs batch, Tensor mask) {
    Tensor state = embeddings(batch);
    for (int layer = 0; layer < layers(); layer++) {
      state = layer(layer, state, batch, new TensorOptional(mask.select(0, layer)));
    }
    Tensor pooled = torch.tanh(linear(state.select(1, 0), "pooler.dense"));
    return linear(pooled, "classifier");
  }

  private Tensor embeddings(LibTorchPeer.Inputs batch) {
    long length = batch.ids().size(1);
    Tensor words = torch.embedding(weight("embeddings.word_embeddings.weight"), batch.ids());
    Tensor positions = weight("embeddings.position_embeddings.weight").narrow(0, 0, length);
    Tensor type = weight("embeddings.token_type_embeddings.weight").select(0, 0);
    return norm(words.add(positions).add(type), "embeddings.LayerNorm");
  }

  private Tensor layer(
      int number, Tensor state, LibTorchPeer.Inputs batch, TensorOptional headMask) {
    String name = "encoder.layer." + number + ".";
    Tensor attended = attention(name, state, batch, headMask);
    Tensor middle =
        norm(
            linear(attended, name + "attention.output.dense").add(state),
            name + "attention.output.LayerNorm");
    Tensor wide = torch.gelu(linear(middle, name + "intermediate.dense"));
    return norm(linear(wide, name + "output.dense").add(middle), name + "output.LayerNorm");
  }

  private Tensor attention(
      String layer, Tensor state, LibTorchPeer.Inputs batch, TensorOptional headMask) {
    long length = state.size(1);
    Tensor parts =
        linear(state, layer + "attention.self.all")
            .view(batch.texts(), length, 3, heads(), config.headDim())
            .permute(2, 0, 3, 1, 4);
    Tensor query = parts.select(0, 0);
    Tensor key = parts.select(0, 1);
    Tensor value = parts.select(0, 2);
    Tensor context =
        headMask.has_value()
            ? masked(query, key, value, batch, headMask.get())
            : torch.scaled_dot_product_attention(
                query,
                key,
                value,
                batch.full() ? new TensorOptional() : new TensorOptional(batch.keys()),
                0,
                false,
                new DoubleOptional(),
                false);
    return context.transpose(1, 2).reshape(batch.texts(), length, config.hiddenSize());
  }

  private Tensor masked(
      Tensor query, Tensor key, Tensor value, LibTorchPeer.Inputs batch, Tensor headMask) {
    double scale = 1 / Math.sqrt(config.headDim());
    Tensor scores =
        torch.matmul(query, key.transpose(2, 3)).mul(new Scalar(scale)).add(batch.keys());
    return torch.matmul(torch.softmax(scores, 3).mul(headMask), value);
  }

  private Tensor linear(Tensor input, String name) {
    return torch.linear(
        input, weight(name + ".weight"), new TensorOptional(weight(name + ".bias")));
  }

  private Tensor norm(Tensor input, String name) {
    return torch.layer_norm(
        input,
        new long[] {config.hiddenSize()},
        new TensorOptional(weight(name + ".weight")),
        new TensorOptional(weight(name + ".bias")),
        config.layerNormEps(),
        true);
  }
}
