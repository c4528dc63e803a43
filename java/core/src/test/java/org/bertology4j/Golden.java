package org.bertology4j;

import java.net.URISyntaxException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.bertology4j.checkpoint.SafetensorsFile;

/**
 * A tiny model and what transformers computes with it; made by resources/golden/make_golden.py and
 * make_golden_gpt.py, and for the folders of resources/checkpoint by make_golden_outputs.py there.
 */
final class Golden implements AutoCloseable {
  static final String[] ALL = {
    "classification",
    "masked",
    "regression",
    "masked_lm",
    "untied_masked_lm",
    "pruned",
    "pruned_regression",
    "narrow",
    "long",
    "encoder",
    "gpt2_lm",
    "gpt2_masked",
    "gpt2_untied",
    "gpt2_double_heads",
    "gpt2_classification",
    "gpt2_regression",
    "gpt2_pruned",
    "gpt2_encoder",
    "gpt2_long",
    "gpt_lm",
    "gpt_masked",
    "gpt_double_heads",
    "gpt_classification",
    "gpt_pruned"
  };

  final Path folder;
  private final SafetensorsFile expected;

  Golden(String name) {
    this(folder(name));
  }

  Golden(Path folder) {
    this.folder = folder;
    this.expected = SafetensorsFile.open(folder.resolve("expected.safetensors"));
  }

  /** A folder of make_golden.py. */
  static Path folder(String name) {
    return resource("/golden/" + name);
  }

  /** A folder or file of the checkpoints in all formats. */
  static Path checkpoint(String name) {
    return resource("/checkpoint/" + name);
  }

  private static Path resource(String name) {
    try {
      return Path.of(Objects.requireNonNull(Golden.class.getResource(name), name).toURI());
    } catch (URISyntaxException e) {
      throw new IllegalStateException(e);
    }
  }

  boolean has(String name) {
    return expected.tensors().containsKey(name);
  }

  private ByteBuffer read(String name) {
    SafetensorsFile.Tensor tensor = expected.tensor(name);
    ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes()).order(ByteOrder.LITTLE_ENDIAN);
    expected.read(tensor, bytes);
    return bytes.flip();
  }

  double[] doubles(String name) {
    double[] values = new double[(int) expected.tensor(name).bytes() / Double.BYTES];
    read(name).asDoubleBuffer().get(values);
    return values;
  }

  float[] floats(String name) {
    float[] values = new float[(int) expected.tensor(name).bytes() / Float.BYTES];
    read(name).asFloatBuffer().get(values);
    return values;
  }

  int[] integers(String name) {
    long[] values = new long[(int) expected.tensor(name).bytes() / Long.BYTES];
    read(name).asLongBuffer().get(values);
    return Arrays.stream(values).mapToInt(Math::toIntExact).toArray();
  }

  int[] shape(String name) {
    return expected.tensor(name).shape().stream().mapToInt(Long::intValue).toArray();
  }

  /** Names of an example's tensors of a capture: one a layer, or one. */
  List<String> names(Capture capture, int example) {
    String end = "." + example;
    return capture.isLayered()
        ? IntStream.iterate(0, l -> has(capture + "." + l + end), l -> l + 1)
            .mapToObj(l -> capture + "." + l + end)
            .toList()
        : Stream.of(capture + end).filter(this::has).toList();
  }

  /** All captures that it has numbers for. */
  Capture[] captures() {
    return Capture.all().stream()
        .filter(capture -> !names(capture, 0).isEmpty())
        .toArray(Capture[]::new);
  }

  /** All captures that every classifier has. */
  static Capture[] capturesOfAnyClassifier() {
    List<Capture> ofOthers =
        List.of(
            Capture.TOKEN_LOGITS,
            Capture.TOKEN_LOSSES,
            Capture.TOKEN_PREDICTIONS,
            Capture.LAST_BLOCK_STATE);
    return Capture.all().stream()
        .filter(capture -> !ofOthers.contains(capture))
        .toArray(Capture[]::new);
  }

  /** The largest magnitude in a capture, of all layers and examples. */
  double largest(Capture capture) {
    return IntStream.range(0, examples())
        .boxed()
        .flatMap(b -> names(capture, b).stream())
        .mapToDouble(name -> largest(doubles(name)))
        .max()
        .orElseThrow();
  }

  static double largest(double[] values) {
    return Arrays.stream(values).map(Math::abs).max().orElse(0);
  }

  /** The reference's own float32 error for a capture. */
  double referenceError(String capture) {
    return doubles("error." + capture)[0];
  }

  /** Whether its losses are squared errors. */
  boolean isRegression() {
    return has("logits.0") && shape("logits.0")[0] == 1;
  }

  int examples() {
    return (int) IntStream.iterate(0, b -> has("input_ids." + b), b -> b + 1).count();
  }

  /** All examples, labelled as the model's task wants. */
  Batch batch(ModelConfig config) {
    return batch(config, IntStream.range(0, examples()).toArray());
  }

  /** These examples, labelled as the model's task wants. */
  Batch batch(ModelConfig config, int... examples) {
    Batch.Builder builder = Batch.builder();
    for (int b : examples) {
      builder.add(integers("input_ids." + b), integers("token_type_ids." + b));
    }
    return labelled(config, builder.build(), examples);
  }

  /** Its sequences, labelled as the model's task wants. */
  Batch labelled(ModelConfig config, Batch all) {
    return labelled(config, all, IntStream.range(0, examples()).toArray());
  }

  private Batch labelled(ModelConfig config, Batch batch, int... examples) {
    return switch (config.task()) {
      case ENCODER -> batch;
      case MASKED_LM ->
          batch.withTokenLabels(
              Arrays.stream(examples)
                  .mapToObj(b -> integers("token_labels." + b))
                  .toArray(int[][]::new));
      case CAUSAL_LM ->
          batch.withNextTokens(
              Arrays.stream(examples)
                  .mapToObj(b -> integers("token_labels." + b))
                  .toArray(int[][]::new));
      case SEQUENCE_CLASSIFICATION -> {
        if (config.regression()) {
          float[] targets = floats("targets");
          float[] some = new float[examples.length];
          IntStream.range(0, some.length).forEach(i -> some[i] = targets[examples[i]]);
          yield batch.withTargets(some);
        }
        int[] labels = integers("labels");
        yield batch.withLabels(Arrays.stream(examples).map(b -> labels[b]).toArray());
      }
    };
  }

  /** The mask that the expected numbers were computed with. */
  HeadMask mask(ModelConfig config) {
    double[] values = doubles("head_mask");
    float[][] rows = new float[config.numHiddenLayers()][config.numAttentionHeads()];
    for (int i = 0; i < values.length; i++) {
      rows[i / config.numAttentionHeads()][i % config.numAttentionHeads()] = (float) values[i];
    }
    return HeadMask.of(rows);
  }

  @Override
  public void close() {
    expected.close();
  }
}
