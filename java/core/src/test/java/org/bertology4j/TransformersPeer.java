package org.bertology4j;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.LongStream;
import org.bertology4j.checkpoint.SafetensorsFile;
import org.bertology4j.checkpoint.SafetensorsType;
import org.bertology4j.checkpoint.SafetensorsWriter;

/**
 * What resources/golden/check_transformers.py runs. Each line of the file that is its argument is a
 * command, its words divided by tabs:
 *
 * <pre>
 * prune FOLDER OUTPUT FORMAT HEADS...   prunes one plan after the other, and saves
 * run   FOLDER IDS OUTPUT [MASK]        runs the examples of a file, with the head mask of another
 *                                       if there is one, and writes what comes out
 * </pre>
 */
final class TransformersPeer {
  private TransformersPeer() {}

  public static void main(String[] arguments) throws IOException {
    for (String line : Files.readAllLines(Path.of(arguments[0]))) {
      String[] words = line.split("\t");
      try (Model model = Model.load(Path.of(words[1]))) {
        switch (words[0]) {
          case "prune" -> {
            for (String heads : List.of(words).subList(4, words.length)) {
              model.pruneHeads(Heads.parse(heads));
            }
            model.save(Path.of(words[2]), Model.SaveFormat.valueOf(words[3]));
          }
          case "run" -> {
            if (words.length > 4) {
              model.maskHeads(readMask(Path.of(words[4]), model.config()));
            }
            run(model, Path.of(words[2]), Path.of(words[3]));
          }
          default -> throw new IllegalArgumentException(line);
        }
      }
    }
  }

  private static void run(Model model, Path ids, Path output) {
    Batch batch = read(ids);
    int layers = model.config().numHiddenLayers();
    List<Capture> captures = new ArrayList<>(List.of(Capture.HIDDEN_STATES.layers(layers)));
    if (model.hasClassifier()) {
      captures.add(Capture.LOGITS);
    }
    // A GPT without a head of its own could predict tokens too, but there is nothing to compare.
    if (model.hasMaskedLm() || model.config().task() == ModelConfig.Task.CAUSAL_LM) {
      captures.add(Capture.TOKEN_LOGITS);
    }
    List<SafetensorsWriter.Entry> entries = new ArrayList<>();
    try (Activations run = model.run(batch, captures.toArray(new Capture[0]))) {
      for (int b = 0; b < batch.examples(); b++) {
        for (Capture capture : captures) {
          entries.add(entry(capture + "." + b, run.get(capture, layers, b)));
        }
      }
    }
    SafetensorsWriter.write(output, Map.of(), entries);
  }

  private static SafetensorsWriter.Entry entry(String name, FloatTensor tensor) {
    float[] values = tensor.toArray();
    ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(values);
    List<Long> shape = LongStream.of(tensor.shape()).boxed().toList();
    return SafetensorsWriter.Entry.of(name, SafetensorsType.F32, shape, bytes);
  }

  private static Batch read(Path path) {
    Batch.Builder batch = Batch.builder();
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      for (int b = 0; file.tensors().containsKey("input_ids." + b); b++) {
        batch.add(integers(file, "input_ids." + b), integers(file, "token_type_ids." + b));
      }
    }
    return batch.build();
  }

  private static HeadMask readMask(Path path, ModelConfig config) {
    float[][] rows = new float[config.numHiddenLayers()][config.numAttentionHeads()];
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      SafetensorsFile.Tensor tensor = file.tensor("head_mask");
      ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes()).order(ByteOrder.LITTLE_ENDIAN);
      file.read(tensor, bytes);
      FloatBuffer values = bytes.flip().asFloatBuffer();
      for (float[] row : rows) {
        values.get(row);
      }
    }
    return HeadMask.of(rows);
  }

  private static int[] integers(SafetensorsFile file, String name) {
    SafetensorsFile.Tensor tensor = file.tensor(name);
    ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes()).order(ByteOrder.LITTLE_ENDIAN);
    file.read(tensor, bytes);
    long[] values = new long[(int) tensor.bytes() / Long.BYTES];
    bytes.flip().asLongBuffer().get(values);
    return LongStream.of(values).mapToInt(Math::toIntExact).toArray();
  }
}
