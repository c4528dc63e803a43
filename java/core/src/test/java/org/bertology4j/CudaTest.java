package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import javax.tools.ToolProvider;
import org.bertology4j.BertologyException.Kind;
import org.bertology4j.internal.CudaLibrary;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The models of the golden files from loading to saving on the first CUDA device. */
@Tag("cuda")
class CudaTest {
  private static final ModelOptions ON_DEVICE = ModelOptions.defaults().device("cuda:0");

  /** The tensor cores and their order of additions may err so many times as the CPU. */
  private static final double TIMES_CPU = 2;

  @TempDir Path temporary;

  /** Surefire does not say of skipped classes why they are. */
  @BeforeAll
  static void needsDevice() {
    Device.whyNoCuda()
        .ifPresent(
            why -> {
              System.out.println("CUDA tests of models are skipped: " + why);
              assumeTrue(false, why);
            });
  }

  static String[] goldens() {
    return Golden.ALL;
  }

  static Stream<String> labelled() {
    return HeadImportanceTest.labelled();
  }

  @Test
  void devicesAreNamedAndDescribed() {
    try (Device first = Device.open("cuda");
        Device auto = Device.open("auto")) {
      assertEquals("cuda:0", first.name());
      assertTrue(first.description().startsWith("device: cuda:0 ("), first.description());
      assertEquals("cuda:0", auto.name());
      assertTrue(
          auto.description().contains("chosen by auto: the first of " + Device.cudaCount()),
          auto.description());
      for (DType dtype : DType.values()) {
        assertTrue(first.supports(dtype), dtype.toString());
      }
    }
    int missing = Device.cudaCount();
    BertologyException e =
        assertThrows(BertologyException.class, () -> Device.open("cuda:" + missing));
    assertEquals(Kind.DEVICE, e.kind());
    assertTrue(e.getMessage().contains("does not exist"), e.getMessage());
  }

  /** A class of the preset's name, which says that it is looked for and has no library. */
  @Test
  void cublasOfJavaCppIsLoadedBeforeOursLooksForIt() throws Exception {
    assumeTrue(System.getenv("BERTOLOGY_CUBLAS") == null, "the environment says which cuBLAS");
    Path source = temporary.resolve("cublas.java");
    Files.writeString(
        source,
        "package org.bytedeco.cuda.global;"
            + " public class cublas { static { System.out.println(\"preset\"); } }");
    int failed =
        ToolProvider.getSystemJavaCompiler()
            .run(null, null, null, "-d", temporary.toString(), source.toString());
    assertEquals(0, failed);
    List<String> options =
        List.of(
            "-Xbootclasspath/a:" + temporary,
            "-Dorg.bytedeco.javacpp.cachedir=" + temporary,
            "-D" + CudaLibrary.PROPERTY + "=" + System.getProperty(CudaLibrary.PROPERTY));
    String said = ChildJvm.start(DeviceTest.Main.class, options, "cuda:0").output();
    assertTrue(said.startsWith("count " + Device.cudaCount() + "\npreset\n"), said);
    assertTrue(said.contains("WARNING: org.bytedeco.cuda.global.cublas could not be loaded"), said);
    assertTrue(said.contains("\ndevice: cuda:0 ("), said);
    assertFalse(
        ChildJvm.start(DeviceTest.Main.class, options, "cpu").output().contains("preset"),
        "nobody asked");
  }

  @ParameterizedTest
  @EnumSource(DType.class)
  void operationsAreMeasured(DType dtype) {
    try (Device device = Device.open("cuda:0")) {
      boolean library = device.description().contains("matrix products: cuBLAS");
      for (Operation operation : Operation.values()) {
        OperationTiming timing = DeviceTest.assertMeasured(device, operation, dtype);
        if (operation == Operation.QUERY_KEY_VALUE) {
          assertEquals(library, timing.librarySeconds().isPresent());
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("goldens")
  void capturesAreThoseOfTheReference(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder, ON_DEVICE)) {
      Batch batch = golden.batch(model.config());
      RunOptions options = RunOptions.capturing(golden.captures()).maskedGradients();
      if (model.prunedHeads().isEmpty()) {
        options = options.headMask(golden.mask(model.config()));
      }
      try (Activations run = model.run(batch, options)) {
        for (int b = 0; b < batch.examples(); b++) {
          new Parity(golden, TIMES_CPU).assertSame(run, b, b);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("labelled")
  void importanceIsThatOfTheReference(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder, ON_DEVICE)) {
      HeadImportanceTest.assertAgreesWithReference(golden, ModelReplicas.of(model), 2);
    }
  }

  /** On all the devices that there are, the first of them twice, and the CPU. */
  @ParameterizedTest
  @ValueSource(strings = {"classification", "gpt2_lm", "gpt_lm"})
  void aDataSetIsDividedAmongDevices(String name) {
    List<String> devices =
        new ArrayList<>(IntStream.range(0, Device.cudaCount()).mapToObj(i -> "cuda:" + i).toList());
    devices.addAll(List.of("cuda:0", "cpu"));
    try (Golden golden = new Golden(name);
        ModelReplicas models =
            ModelReplicas.load(golden.folder, ModelOptions.defaults(), devices)) {
      HeadImportanceTest.assertAgreesWithReference(golden, models, 1);
      try (Model onCpu = Model.load(golden.folder, ModelOptions.defaults().device("cpu"))) {
        List<Batch> batches = HeadImportanceTest.batches(golden, onCpu.config(), 1);
        List<HeadMask> masks = MaskSweepTest.masks(onCpu, 3);
        MaskScorer loss = MaskScorer.meanLoss();
        double[] expected = MaskSweep.of(onCpu, batches, loss).scores(masks);
        double[] scores = MaskSweep.of(models, batches, loss).scores(masks);
        assertArrayEquals(expected, scores, TIMES_CPU * 5e-6);
      }
    }
  }

  @Test
  void modelsRunOnTheSecondDevice() {
    assumeTrue(Device.cudaCount() > 1, "there is one CUDA device only");
    try (Golden golden = new Golden("classification");
        Model first = Model.load(golden.folder, ON_DEVICE);
        Model second = Model.load(golden.folder, ON_DEVICE.device("cuda:1"))) {
      assertEquals("cuda:1", second.device().name());
      Batch batch = golden.batch(first.config());
      assertArrayEquals(outputs(first, batch), outputs(second, batch));
    }
  }

  private static void assertClose(float[] expected, float[] actual) {
    double largest = 1;
    for (float value : expected) {
      largest = Math.max(largest, Math.abs(value));
    }
    assertArrayEquals(expected, actual, (float) (2 * TIMES_CPU * 2e-6 * largest));
  }

  /** The last of layer 0, and a whole layer. */
  private static Heads someHeads(ModelConfig config) {
    int last = config.numAttentionHeads() - 1;
    String wholeLayer =
        IntStream.rangeClosed(0, last).mapToObj(String::valueOf).collect(Collectors.joining(","));
    return Heads.parse("0:" + last + ";" + (config.numHiddenLayers() - 1) + ":" + wholeLayer);
  }

  private static float[] outputs(Model model, Batch batch) {
    Capture output = model.hasClassifier() ? Capture.LOGITS : Capture.TOKEN_LOGITS;
    try (Activations run = model.run(batch, output)) {
      return run.get(output, 0, 0).toArray();
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"classification", "regression", "masked_lm", "gpt2_lm", "gpt_lm"})
  void headsAreMaskedPrunedSavedAndRestored(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder, ON_DEVICE)) {
      Batch batch = golden.batch(model.config());
      final float[] whole = outputs(model, batch);
      final long bytes = model.memoryBytes();
      Heads heads = someHeads(model.config());
      model.maskHeads(HeadMask.without(heads, model.config()));
      final float[] masked = outputs(model, batch);
      model.pruneHeads(heads);
      float[] pruned = outputs(model, batch);
      assertClose(masked, pruned);
      assertTrue(model.memoryBytes() < bytes);

      Path saved = temporary.resolve("saved");
      model.save(saved);
      try (Model again = Model.load(saved, ON_DEVICE);
          Model onCpu = Model.load(saved, ModelOptions.defaults().device("cpu"))) {
        assertEquals(heads, again.prunedHeads());
        assertArrayEquals(pruned, outputs(again, batch), "from the same numbers");
        assertClose(pruned, outputs(onCpu, batch));
      }
      model.restoreHeads();
      assertEquals(bytes, model.memoryBytes());
      assertArrayEquals(whole, outputs(model, batch), "bit for bit");
    }
  }

  /** The error of a state that went through some ten products of rounded inputs. */
  @ParameterizedTest
  @EnumSource(names = "FLOAT32", mode = EnumSource.Mode.EXCLUDE)
  void halvesAreCloseToFloat32(DType dtype) {
    for (String name : List.of("classification", "gpt2_classification", "gpt_classification")) {
      try (Golden golden = new Golden(name);
          Model model = Model.load(golden.folder, ON_DEVICE.dtype(dtype))) {
        assertEquals(dtype, model.dtype());
        Batch batch = golden.batch(model.config());
        double bound =
            (dtype == DType.BFLOAT16 ? 0.05 : 0.006) * golden.largest(Capture.HIDDEN_STATES);
        RunOptions options =
            RunOptions.capturing(Capture.HIDDEN_STATES).headMask(golden.mask(model.config()));
        try (Activations run = model.run(batch, options)) {
          for (int b = 0; b < batch.examples(); b++) {
            List<String> states = golden.names(Capture.HIDDEN_STATES, b);
            for (int l = 0; l < states.size(); l++) {
              double[] expected = golden.doubles(states.get(l));
              Parity.assertSame(states.get(l), expected, run.hiddenState(l, b).toArray(), bound);
            }
          }
        }
      }
    }
  }

  @Test
  void threadsRunAtOnce() throws Exception {
    try (Golden golden = new Golden("classification");
        Model model = Model.load(golden.folder, ON_DEVICE)) {
      Batch batch = golden.batch(model.config());
      float[] expected = outputs(model, batch);
      ExecutorService threads = Executors.newFixedThreadPool(3);
      try {
        List<Future<float[]>> runs =
            IntStream.range(0, 9)
                .mapToObj(i -> threads.submit(() -> outputs(model, batch)))
                .toList();
        for (Future<float[]> run : runs) {
          assertArrayEquals(expected, run.get());
        }
      } finally {
        threads.shutdown();
      }
    }
  }

  @Test
  void refusedRunsLeaveTheModelUsable() {
    try (Golden golden = new Golden("classification");
        Model model = Model.load(golden.folder, ON_DEVICE)) {
      Batch batch = golden.batch(model.config());
      float[] expected = outputs(model, batch);
      int[] unknown = new int[model.config().maxPositionEmbeddings()];
      Arrays.fill(unknown, model.config().vocabSize());
      assertThrows(
          BertologyException.class, () -> model.run(Batch.of(unknown), Capture.HIDDEN_STATES));
      assertArrayEquals(expected, outputs(model, batch));
    }
  }
}
