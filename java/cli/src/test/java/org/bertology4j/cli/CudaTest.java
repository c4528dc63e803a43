package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.bertology4j.Capture;
import org.bertology4j.Device;
import org.bertology4j.Operation;
import org.bertology4j.checkpoint.SafetensorsFile;
import org.bertology4j.checkpoint.SafetensorsType;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The commands on the first CUDA device write what they write on the CPU. */
@Tag("cuda")
class CudaTest {
  private static final String ON_DEVICE = "cuda:0";

  /** Of the largest number of a file or tensor: twice what the CPU is allowed. */
  private static final double TOLERANCE = 2e-5;

  @TempDir Path temporary;
  private Path model;
  private Path data;

  /** Surefire does not say of skipped classes why they are. */
  @BeforeAll
  static void needsDevice() {
    Device.whyNoCuda()
        .ifPresent(
            why -> {
              System.out.println("CUDA tests of the command line are skipped: " + why);
              assumeTrue(false, why);
            });
  }

  @BeforeEach
  void makeModelAndData() {
    model = Tiny.classifier(temporary.resolve("model"), "bad", "good");
    data =
        Tiny.table(
            temporary.resolve("data.tsv"),
            "sentence\tlabel",
            Tiny.sentences(12, 9, 1),
            Tiny.labels(12, 2, "bad", "good"));
  }

  private Path output(String device) {
    return temporary.resolve(device.replaceAll("\\W", "-"));
  }

  /** Runs a command of the model; where it wrote. */
  private Path on(String device, String outputOption, String command, Object... more) {
    Path output = output(device);
    Cli.succeeds(
        Stream.concat(
                Stream.of(command, "--model_name_or_path", model, "--device", device),
                Stream.concat(Stream.of(outputOption, output), Stream.of(more)))
            .toArray());
    return output;
  }

  private static JsonObject results(Path folder) throws IOException {
    return JsonParser.parseString(Files.readString(folder.resolve("results.json")))
        .getAsJsonObject();
  }

  private static void assertClose(String what, float[] expected, float[] actual) {
    double largest = 0;
    for (float value : expected) {
      largest = Math.max(largest, Math.abs(value));
    }
    assertArrayEquals(expected, actual, (float) Math.max(1e-9, TOLERANCE * largest), what);
  }

  private static void assertClose(Path expected, Path actual) {
    float[][] rows = Npy.read(expected);
    float[][] others = Npy.read(actual);
    assertEquals(rows.length, others.length);
    assertClose(actual.getFileName().toString(), joined(rows), joined(others));
  }

  private static float[] joined(float[][] rows) {
    FloatBuffer all = FloatBuffer.allocate(Stream.of(rows).mapToInt(row -> row.length).sum());
    Stream.of(rows).forEach(all::put);
    return all.array();
  }

  @ParameterizedTest
  @ValueSource(strings = {"cuda:0", "cuda:0,cpu"})
  void runMeasuresMasksAndPrunes(String devices) throws IOException {
    Object[] options = {"--input", data, "--try_masking", "--masking_threshold", "0.01"};
    Path expected = on("cpu", "--output_dir", "run", options);
    Path actual = on(devices, "--output_dir", "run", options);
    for (String file : List.of("head_importance.npy", "attn_entropy.npy", "head_mask.npy")) {
      assertClose(expected.resolve(file), actual.resolve(file));
    }
    JsonObject onCpu = results(expected);
    JsonObject onDevice = results(actual);
    for (String same : List.of("tokens", "scores", "masked_heads", "pruned_score")) {
      assertEquals(onCpu.get(same), onDevice.get(same), same);
    }
    assertEquals(onCpu.get("loss").getAsDouble(), onDevice.get("loss").getAsDouble(), TOLERANCE);
    assertTrue(
        onDevice.getAsJsonArray("device").get(0).getAsString().startsWith("device: cuda:0 ("),
        onDevice.toString());
  }

  @Test
  void sweepScoresEachHead() throws IOException {
    Object[] options = {"--input", data, "--kind", "ablation", "--value", "loss"};
    Path expected = on("cpu", "--output_dir", "sweep", options);
    Path actual = on(ON_DEVICE, "--output_dir", "sweep", options);
    assertClose(expected.resolve("head_scores.npy"), actual.resolve("head_scores.npy"));
    assertEquals(
        results(expected).get("score").getAsDouble(),
        results(actual).get("score").getAsDouble(),
        TOLERANCE);
  }

  @Test
  void captureWritesEveryTensor() {
    String captures =
        CaptureTest.allOfClassifiers().stream()
            .map(Capture::toString)
            .collect(Collectors.joining(","));
    Object[] options = {"--input", data, "--label_column", "label", "--capture", captures};
    try (SafetensorsFile expected =
            SafetensorsFile.open(on("cpu", "--output", "capture", options));
        SafetensorsFile actual =
            SafetensorsFile.open(on(ON_DEVICE, "--output", "capture", options))) {
      assertEquals(expected.metadata(), actual.metadata());
      assertEquals(expected.tensors().keySet(), actual.tensors().keySet());
      assertFalse(expected.tensors().isEmpty());
      for (String name : expected.tensors().keySet()) {
        SafetensorsFile.Tensor tensor = expected.tensor(name);
        assertEquals(tensor.shape(), actual.tensor(name).shape(), name);
        ByteBuffer bytes = bytes(expected, name);
        if (tensor.type() == SafetensorsType.F32) {
          assertClose(name, floats(bytes), floats(bytes(actual, name)));
        } else {
          assertEquals(bytes, bytes(actual, name), name);
        }
      }
    }
  }

  private static ByteBuffer bytes(SafetensorsFile file, String name) {
    SafetensorsFile.Tensor tensor = file.tensor(name);
    ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes()).order(ByteOrder.LITTLE_ENDIAN);
    file.read(tensor, bytes);
    return bytes.flip();
  }

  private static float[] floats(ByteBuffer bytes) {
    float[] values = new float[bytes.remaining() / Float.BYTES];
    bytes.asFloatBuffer().get(values);
    return values;
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void pruneSavesTheSameWeights(boolean fullShape) throws IOException {
    Object[] options =
        Stream.concat(
                Stream.of("--heads", "0:1,3;1:0,1,2,3"),
                fullShape ? Stream.of("--full_shape") : Stream.of())
            .toArray();
    Path expected = on("cpu", "--output_dir", "prune", options);
    Path actual = on(ON_DEVICE, "--output_dir", "prune", options);
    for (String file : List.of("config.json", "model.safetensors", "vocab.txt")) {
      assertEquals(-1, Files.mismatch(expected.resolve(file), actual.resolve(file)), file);
    }
  }

  @Test
  void infoAndBenchSayWhatTheyRanOn() {
    assertTrue(Cli.succeeds("info", "--device", ON_DEVICE).contains("device: cuda:0 ("));
    String said =
        Cli.succeeds(
            "bench",
            "--shape",
            "bert-tiny",
            "--device",
            ON_DEVICE,
            "--examples",
            1,
            "--length",
            2,
            "--rounds",
            1);
    assertTrue(said.startsWith("device: cuda:0 ("), said);
    assertTrue(said.contains("copies inside the device's memory: "), said);
    for (Operation operation : Operation.values()) {
      assertTrue(said.contains("\n" + operation + " "), said);
    }
  }
}
