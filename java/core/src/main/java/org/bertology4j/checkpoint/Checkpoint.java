package org.bertology4j.checkpoint;

import java.io.Closeable;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import org.bertology4j.ModelConfig;

/**
 * A model's weights in a file, whatever the format: tensors under Hugging Face's names, and the
 * model's configuration.
 *
 * <p>The file stays open until {@link #close}, so that pruned heads can be brought back from it. No
 * reader runs code from a file. Safe for use from many threads.
 */
public interface Checkpoint extends Closeable {

  /** The shape of the model. */
  ModelConfig config();

  /** The tensors, by name. */
  Map<String, StoredTensor> tensors();

  /**
   * Reads a tensor's bytes, as they are stored, little-endian.
   *
   * @param target has {@link StoredTensor#bytes} bytes remaining; its position moves to its limit
   */
  void read(StoredTensor tensor, ByteBuffer target);

  /** The file or folder that it was opened from; of a model that is from no file, what it is. */
  Path source();

  /**
   * The folder of its files, which may have others of the model too, such as its tokenizer; empty
   * if it is from no file.
   */
  Optional<Path> folder();

  @Override
  void close();

  /**
   * Opens a checkpoint: a Hugging Face folder (config.json and model.safetensors, or its shards),
   * an ONNX export of BERT (a file, or a folder with one), or a TensorFlow bundle of BERT (a folder
   * with bert_config.json and variables).
   */
  static Checkpoint open(Path path) {
    return Checkpoints.open(path);
  }

  /**
   * A model of this shape that has learned nothing, initialised as Hugging Face does: the control
   * for what is found in a trained one. The same seed gives the same weights.
   */
  static Checkpoint random(ModelConfig config, long seed) {
    return new RandomCheckpoint(config, seed);
  }
}
