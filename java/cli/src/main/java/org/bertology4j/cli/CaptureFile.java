package org.bertology4j.cli;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.bertology4j.Activations;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.FloatTensor;
import org.bertology4j.Model;
import org.bertology4j.ModelConfig;
import org.bertology4j.RunOptions;
import org.bertology4j.checkpoint.SafetensorsType;
import org.bertology4j.checkpoint.SafetensorsWriter;

/** Captures of a data set as padded tensors in a safetensors file, written batch by batch. */
final class CaptureFile {
  private static final List<String> TOKEN_TENSORS =
      List.of("input_ids", "token_type_ids", "attention_mask");

  private final Model model;
  private final List<Batch> batches;
  private final List<Part> parts = new ArrayList<>();
  private final List<Capture> captures;
  private final int examples;
  private final int longest;

  /**
   * What stands before the places of tokens in the shape of an example, and so where padding goes.
   */
  private enum Padding {
    /** Nothing is padded, or the tokens come first: behind all elements. */
    BEHIND,
    /** [heads, tokens, ...]: behind each head's tokens. */
    BY_HEAD,
    /** [heads, tokens, tokens]: behind each row of each head, too. */
    BY_PAIR
  }

  /** A capture of one layer, or one without layers: a tensor of the file. */
  private record Part(
      Capture capture, int layer, Padding padding, SafetensorsWriter.Tensor tensor) {
    /** Elements of one example. */
    long elements() {
      return tensor.shape().stream().skip(1).reduce(1L, Math::multiplyExact);
    }
  }

  CaptureFile(Model model, List<Batch> batches, List<Capture> captures) {
    this.model = model;
    this.batches = batches;
    this.captures = captures;
    examples = batches.stream().mapToInt(Batch::examples).sum();
    longest = batches.stream().mapToInt(Batch::longest).max().orElseThrow();
    for (Capture capture : captures) {
      if (!capture.isLayered()) {
        parts.add(part(capture, name(capture), 0));
        continue;
      }
      boolean states =
          capture == Capture.HIDDEN_STATES || capture == Capture.HIDDEN_STATE_GRADIENTS;
      int layers = model.config().numHiddenLayers() + (states ? 1 : 0);
      for (int l = 0; l < layers; l++) {
        parts.add(part(capture, name(capture) + "." + l, l));
      }
    }
  }

  private static String name(Capture capture) {
    return capture == Capture.TOKEN_LOGITS ? "logits" : capture.toString();
  }

  private Part part(Capture capture, String name, int layer) {
    ModelConfig config = model.config();
    long width = config.hiddenSize();
    long tokens = longest;
    long heads = model.heads(layer < config.numHiddenLayers() ? layer : 0).size();
    Padding padding = Padding.BEHIND;
    List<Long> shape;
    if (capture == Capture.LOSS) {
      shape = List.of();
    } else if (capture == Capture.TOKEN_LOSSES || capture == Capture.TOKEN_PREDICTIONS) {
      shape = List.of(tokens);
    } else if (capture == Capture.LAST_BLOCK_STATE) {
      shape = List.of(tokens, width);
    } else if (capture == Capture.LOGITS) {
      shape = List.of((long) config.labels().size());
    } else if (capture == Capture.TOKEN_LOGITS) {
      shape = List.of(tokens, (long) config.vocabSize());
    } else if (capture == Capture.POOLER_OUTPUT) {
      shape = List.of(width);
    } else if (capture == Capture.HEAD_GRADIENTS || capture == Capture.TOKEN_HEAD_GRADIENTS) {
      shape = List.of((long) config.numHiddenLayers(), (long) config.numAttentionHeads());
    } else if (capture == Capture.HIDDEN_STATES || capture == Capture.HIDDEN_STATE_GRADIENTS) {
      shape = List.of(tokens, width);
    } else if (capture == Capture.HEAD_OUTPUTS || capture == Capture.HEAD_OUTPUT_GRADIENTS) {
      shape = List.of(heads, tokens, (long) config.headDim());
      padding = Padding.BY_HEAD;
    } else if (capture == Capture.ATTENTION_ENTROPIES) {
      shape = List.of(heads, tokens);
      padding = Padding.BY_HEAD;
    } else { // attention maps and their gradients
      shape = List.of(heads, tokens, tokens);
      padding = Padding.BY_PAIR;
    }
    List<Long> all = new ArrayList<>(List.of((long) examples));
    all.addAll(shape);
    return new Part(
        capture, layer, padding, new SafetensorsWriter.Tensor(name, SafetensorsType.F32, all));
  }

  /** Tokens of the longest text, special ones included. */
  int longest() {
    return longest;
  }

  /** How many tensors the file has. */
  int tensors() {
    return TOKEN_TENSORS.size() + parts.size();
  }

  void write(Path file) {
    List<SafetensorsWriter.Tensor> tensors = new ArrayList<>();
    List<Long> tokens = List.of((long) examples, (long) longest);
    for (String name : TOKEN_TENSORS) {
      tensors.add(new SafetensorsWriter.Tensor(name, SafetensorsType.I64, tokens));
    }
    parts.forEach(part -> tensors.add(part.tensor()));
    SafetensorsWriter.writePieces(file, Map.of("heads", headNumbers()), tensors, this::writePieces);
  }

  /** Which heads the maps and outputs of each layer are of, as they may have been pruned. */
  private String headNumbers() {
    List<List<Integer>> heads = new ArrayList<>();
    for (int l = 0; l < model.config().numHiddenLayers(); l++) {
      heads.add(model.heads(l));
    }
    return heads.toString();
  }

  private void writePieces(SafetensorsWriter.Pieces pieces) throws IOException {
    RunOptions options = RunOptions.capturing(captures.toArray(new Capture[0]));
    int first = 0;
    try (Progress<Batch> progress = Progress.over("capture", batches)) {
      for (Batch batch : progress) {
        try (Activations run = model.run(batch, options)) {
          writeBatch(pieces, run, first);
        }
        first += batch.examples();
      }
    }
  }

  private void writeBatch(SafetensorsWriter.Pieces pieces, Activations run, int first)
      throws IOException {
    for (int b = 0; b < run.batch().examples(); b++) {
      writeTokens(pieces, run.batch(), b, first + b);
      for (Part part : parts) {
        writeExample(pieces, part, run, b, first + b);
      }
    }
  }

  private void writeTokens(SafetensorsWriter.Pieces pieces, Batch batch, int b, int row)
      throws IOException {
    int length = batch.length(b);
    int[] ids = batch.inputIds(b);
    int[] types = batch.tokenTypeIds(b);
    ByteBuffer idBytes = longs(length);
    ByteBuffer typeBytes = longs(length);
    ByteBuffer maskBytes = longs(length);
    for (int i = 0; i < length; i++) {
      idBytes.putLong(ids[i]);
      typeBytes.putLong(types[i]);
      maskBytes.putLong(1);
    }
    long offset = (long) row * longest * Long.BYTES;
    pieces.write("input_ids", offset, idBytes.flip());
    pieces.write("token_type_ids", offset, typeBytes.flip());
    pieces.write("attention_mask", offset, maskBytes.flip());
  }

  private static ByteBuffer longs(int count) {
    return ByteBuffer.allocate(count * Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
  }

  private void writeExample(
      SafetensorsWriter.Pieces pieces, Part part, Activations run, int b, int row)
      throws IOException {
    if (part.elements() == 0) {
      return; // a layer without heads
    }
    FloatTensor tensor = run.get(part.capture(), part.layer(), b);
    float[] values = tensor.toArray();
    if (part.capture() == Capture.HEAD_OUTPUTS || part.capture() == Capture.HEAD_OUTPUT_GRADIENTS) {
      values = byHead(values, tensor.shape());
    }
    int length = run.batch().length(b);
    ByteBuffer bytes =
        ByteBuffer.allocate(Math.toIntExact(part.elements() * Float.BYTES))
            .order(ByteOrder.LITTLE_ENDIAN);
    int rows = // runs of elements without padding between them
        switch (part.padding()) {
          case BEHIND -> 1;
          case BY_HEAD -> model.heads(part.layer()).size();
          case BY_PAIR -> model.heads(part.layer()).size() * length;
        };
    int count = values.length / rows;
    for (int r = 0; r < rows; r++) {
      int place =
          switch (part.padding()) {
            case BEHIND -> 0;
            case BY_HEAD -> r * (count / length) * longest;
            case BY_PAIR -> (r / length * longest + r % length) * longest;
          };
      bytes.position(place * Float.BYTES);
      bytes.asFloatBuffer().put(values, r * count, count);
    }
    pieces.write(part.tensor().name(), row * part.elements() * Float.BYTES, bytes.clear());
  }

  /** [n, heads, d] as [heads, n, d]. */
  private static float[] byHead(float[] values, long[] shape) {
    int length = (int) shape[0];
    int heads = (int) shape[1];
    int dim = (int) shape[2];
    float[] moved = new float[values.length];
    for (int i = 0; i < length; i++) {
      for (int h = 0; h < heads; h++) {
        System.arraycopy(values, (i * heads + h) * dim, moved, (h * length + i) * dim, dim);
      }
    }
    return moved;
  }
}
