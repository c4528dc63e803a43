package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import java.util.logging.SimpleFormatter;
import java.util.stream.Stream;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Which device is opened, and what is said where it is missing. */
class DeviceTest {
  @TempDir Path temporary;

  /** Asks for the device that its argument names, in a process with libraries of its own. */
  static final class Main {
    public static void main(String[] arguments) {
      if (!arguments[0].equals("cpu")) {
        System.out.println("count " + Device.cudaCount());
      }
      try (Device device = Device.open(arguments[0])) {
        System.out.println(device.description());
      } catch (BertologyException e) {
        System.out.println(e.kind() + ": " + e.getMessage());
      }
    }
  }

  private String open(String device, String... options) throws Exception {
    List<String> all = new ArrayList<>(List.of(options));
    all.add("-Dorg.bytedeco.javacpp.cachedir=" + temporary);
    return ChildJvm.start(Main.class, all, device).output();
  }

  private static void assertHas(String part, String text) {
    assertTrue(text.contains(part), text);
  }

  @Test
  void withoutItsJarThereIsNoCuda() {
    assertEquals(0, Device.cudaCount());
    String why = Device.whyNoCuda().orElseThrow();
    assertHas("add the jar of bertology4j-core with the classifier linux-x86_64-gpu", why);
    assertHas("-Dorg.bertology4j.cuda.library=PATH", why);
    for (String name : List.of("cuda", "cuda:0", "cuda:7")) {
      BertologyException e = assertThrows(BertologyException.class, () -> Device.open(name));
      assertEquals(Kind.DEVICE, e.kind());
      assertHas("device " + (name.equals("cuda") ? "cuda:0" : name) + ": " + why, e.getMessage());
    }
    try (Device auto = Device.open("auto")) {
      assertEquals("cpu", auto.name());
      assertHas("\nchosen by auto: no CUDA device can be used: " + why, auto.description());
    }
    try (Device named = Device.open("cpu")) {
      assertFalse(named.description().contains("chosen by auto"), named.description());
    }
  }

  /** Keeps what is logged. */
  private static final class Lines extends Handler {
    private final List<String> lines = new ArrayList<>();

    @Override
    public void publish(LogRecord line) {
      lines.add(line.getLevel() + " " + new SimpleFormatter().formatMessage(line));
    }

    @Override
    public void flush() {}

    @Override
    public void close() {}
  }

  private static Device autoAfter(Kind failure) {
    return Device.auto(
        2,
        Optional.empty(),
        () -> {
          throw new BertologyException(failure, "no {0}, it''s full");
        });
  }

  /** Another process has filled it, or it broke. */
  @ParameterizedTest
  @EnumSource(names = {"DEVICE", "OUT_OF_MEMORY"})
  void autoTakesTheCpuInsteadOfADeviceThatCannotBeOpened(Kind failure) {
    Logger logger = Logger.getLogger(Device.class.getName());
    Lines logged = new Lines();
    logger.addHandler(logged);
    logger.setUseParentHandlers(false);
    try (Device auto = autoAfter(failure)) {
      assertEquals("cpu", auto.name());
      assertHas("no CUDA device can be used: no {0}, it''s full", auto.description());
      assertEquals(
          List.of("WARNING auto takes the CPU, not cuda:0: no {0}, it''s full"), logged.lines);
    } finally {
      logger.setUseParentHandlers(true);
      logger.removeHandler(logged);
    }
  }

  @ParameterizedTest
  @EnumSource(
      names = {"DEVICE", "OUT_OF_MEMORY"},
      mode = EnumSource.Mode.EXCLUDE)
  void autoHidesNoOtherFailures(Kind failure) {
    BertologyException e = assertThrows(BertologyException.class, () -> autoAfter(failure).close());
    assertEquals(failure, e.kind());
  }

  @Test
  void aLibraryThatCannotBeLoadedIsNamed() throws Exception {
    String missing = temporary.resolve("none.so").toString();
    String property = "-Dorg.bertology4j.cuda.library=" + missing;
    assertHas("DEVICE: the CUDA backend could not be loaded: " + missing, open("cuda:0", property));
    assertHas("count 0\ndevice: cpu", open("auto", property));
  }

  /** The part that was built, as its jar has it; a machine without a driver gets as far as that. */
  @Test
  void theLibraryIsUnpackedFromTheClassPathWhenItIsAskedFor() throws Exception {
    Path packed = Path.of("target", "native-gpu").toAbsolutePath();
    assumeTrue(Files.isDirectory(packed), "the part for CUDA was not built");
    String onClassPath = "-Xbootclasspath/a:" + packed;
    open("cpu", onClassPath);
    assertEquals(0, unpacked().size(), "nobody asked");
    String said = open("cuda:0", onClassPath);
    assertEquals(1, unpacked().size(), said);
    String first = said.lines().skip(1).findFirst().orElseThrow();
    assertTrue(
        first.startsWith("device: cuda:0 (") || first.startsWith("DEVICE: device cuda:0: "), said);
    assertFalse(said.contains("add the jar"), said);
  }

  private List<Path> unpacked() throws IOException {
    try (Stream<Path> files = Files.walk(temporary)) {
      return files.filter(file -> file.endsWith("libbertology_cuda.so")).toList();
    }
  }

  @Test
  void unknownNamesAreRefused() {
    for (String name : List.of("tpu", "cuda:x", "CPU", "")) {
      BertologyException e = assertThrows(BertologyException.class, () -> Device.open(name));
      assertEquals(Kind.INVALID_ARGUMENT, e.kind());
    }
  }

  @Test
  void typesAreReadByTheirNames() {
    assertEquals(DType.FLOAT16, DType.parse("FP16"));
    assertEquals(DType.FLOAT16, DType.parse("float16"));
    assertEquals(DType.BFLOAT16, DType.parse("bf16"));
    assertThrows(BertologyException.class, () -> DType.parse("int8"));
  }

  @Test
  void float16IsForCudaDevices() {
    ModelOptions options = ModelOptions.defaults().device("cpu").dtype(DType.FLOAT16);
    Path folder = Golden.folder("classification");
    BertologyException e =
        assertThrows(BertologyException.class, () -> Model.load(folder, options).close());
    assertEquals(Kind.UNSUPPORTED, e.kind());
    assertHas("dtype float16: this device has no instructions for it", e.getMessage());
  }

  @Test
  void operationsAreMeasured() {
    try (Device cpu = Device.open("cpu", 1)) {
      for (Operation operation : Operation.values()) {
        assertMeasured(cpu, operation, DType.FLOAT32);
      }
    }
  }

  /** Times mean nothing in a shape this small; that they are there does. */
  static OperationTiming assertMeasured(Device device, Operation operation, DType dtype) {
    JsonObject json = new JsonObject();
    json.addProperty("num_hidden_layers", 1);
    json.addProperty("num_attention_heads", 2);
    json.addProperty("hidden_size", 16);
    json.addProperty("intermediate_size", 24);
    json.addProperty("vocab_size", 20);
    json.addProperty("max_position_embeddings", 8);
    json.addProperty("type_vocab_size", 2);
    OperationTiming timing =
        device.measure(operation, ModelConfig.fromJson(json, "tiny"), dtype, 2, 6, 0);
    assertEquals(operation, timing.operation());
    assertTrue(timing.seconds() > 0, timing.toString());
    assertTrue(timing.copySeconds() > 0, timing.toString());
    assertTrue(timing.leastBytes() > 0, timing.toString());
    boolean library = device.description().contains("matrix products: cuBLAS");
    assertTrue(library || timing.librarySeconds().isEmpty(), timing.toString());
    return timing;
  }
}
