package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Every capture against transformers 4.57.6 in float64, example by example. */
class GoldenTest {
  static String[] goldens() {
    return Golden.ALL;
  }

  /** Captures with the mask that the golden numbers are for. */
  private static RunOptions options(Golden golden, Model model, Capture... captures) {
    RunOptions options = RunOptions.capturing(captures).maskedGradients();
    return model.prunedHeads().isEmpty() ? options.headMask(golden.mask(model.config())) : options;
  }

  @ParameterizedTest
  @MethodSource("goldens")
  void aBatchOfOddLengthsGivesTheNumbersOfEachExampleAlone(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      Batch batch = golden.batch(model.config());
      try (Activations run = model.run(batch, options(golden, model, golden.captures()))) {
        for (int b = 0; b < batch.examples(); b++) {
          new Parity(golden).assertSame(run, b, b);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("goldens")
  void examplesAloneGiveTheSameNumbers(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      for (int b = 0; b < golden.examples(); b++) {
        Batch batch = golden.batch(model.config(), b);
        try (Activations run = model.run(batch, options(golden, model, golden.captures()))) {
          new Parity(golden).assertSame(run, 0, b);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("goldens")
  void aBatchOf64GivesTheSameNumbers(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      int[] examples = new Random(64).ints(64, 0, golden.examples()).toArray();
      Batch batch = golden.batch(model.config(), examples);
      try (Activations run = model.run(batch, options(golden, model, golden.captures()))) {
        for (int b = 0; b < examples.length; b++) {
          new Parity(golden).assertSame(run, b, examples[b]);
        }
      }
    }
  }

  /** What fills sequences up, on either side, changes no bit. */
  @ParameterizedTest
  @MethodSource("goldens")
  void paddedInputsGiveTheNumbersOfTheSequencesAlone(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      Batch batch = golden.batch(model.config());
      RunOptions options = options(golden, model, golden.captures());
      for (boolean left : new boolean[] {true, false}) {
        Batch padded = golden.labelled(model.config(), padded(batch, left));
        try (Activations run = model.run(padded, options);
            Activations unpadded = model.run(batch, options)) {
          for (int b = 0; b < batch.examples(); b++) {
            new Parity(golden).assertSame(run, b, b);
            for (Capture capture : golden.captures()) {
              for (int l = 0; l < golden.names(capture, b).size(); l++) {
                assertArrayEquals(
                    unpadded.get(capture, l, b).toArray(), run.get(capture, l, b).toArray());
              }
            }
          }
        }
      }
    }
  }

  private static Batch padded(Batch batch, boolean left) {
    Batch.Builder builder = Batch.builder();
    for (int b = 0; b < batch.examples(); b++) {
      int length = batch.length(b);
      int start = left ? batch.longest() - length : 0;
      int[] ids = new int[batch.longest()];
      Arrays.fill(ids, 1);
      System.arraycopy(batch.inputIds(b), 0, ids, start, length);
      int[] types = new int[ids.length];
      System.arraycopy(batch.tokenTypeIds(b), 0, types, start, length);
      int[] mask = new int[ids.length];
      Arrays.fill(mask, start, start + length, 1);
      builder.addPadded(ids, types, mask);
    }
    return builder.build();
  }

  /** With few captures the last layer computes some rows only: another path, the same numbers. */
  @ParameterizedTest
  @MethodSource("goldens")
  void eachCaptureAloneGivesTheSameNumbers(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      Batch batch = golden.batch(model.config());
      for (Capture capture : golden.captures()) {
        try (Activations run = model.run(batch, options(golden, model, capture))) {
          for (int b = 0; b < batch.examples(); b++) {
            new Parity(golden).assertSame(capture, run, b, b);
          }
        }
      }
    }
  }

  /**
   * The heads that are masked with 0 are pruned instead, and the others keep their values between 0
   * and 1, which the reference cannot do with layers of different widths.
   */
  @ParameterizedTest
  @ValueSource(
      strings = {
        "masked",
        "regression",
        "untied_masked_lm",
        "narrow",
        "long",
        "gpt2_masked",
        "gpt2_untied",
        "gpt2_regression",
        "gpt2_long",
        "gpt_masked",
        "gpt_classification"
      })
  void pruningWhatIsMaskedLeavesTheNumbersOfTheOtherHeads(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      HeadMask mask = golden.mask(model.config());
      Heads pruned = mask.masked();
      assertFalse(pruned.isEmpty());
      model.pruneHeads(pruned);
      model.maskHeads(mask.unmasking(pruned));
      Batch batch = golden.batch(model.config());
      try (Activations run = model.run(batch, golden.captures())) {
        for (int b = 0; b < batch.examples(); b++) {
          assertSameOfOtherHeads(golden, model, run, b);
        }
      }
    }
  }

  private static void assertSameOfOtherHeads(Golden golden, Model model, Activations run, int b) {
    Parity parity = new Parity(golden);
    for (Capture capture : golden.captures()) {
      List<String> names = golden.names(capture, b);
      for (int l = 0; l < names.size(); l++) {
        double[] expected = golden.doubles(names.get(l));
        double bound = parity.bound(capture, expected);
        float[] actual = run.get(capture, l, b).toArray();
        Parity.assertSame(names.get(l), others(capture, l, expected, model), actual, bound);
      }
    }
  }

  /** What of a tensor with all heads is of those that the model has; 0 for gradients of others. */
  private static double[] others(Capture capture, int layer, double[] all, Model model) {
    ModelConfig config = model.config();
    int heads = config.numAttentionHeads();
    IntStream places = IntStream.range(0, all.length);
    return switch (capture.toString()) {
      case "head_gradients", "token_head_gradients" ->
          places
              .mapToDouble(i -> model.heads(i / heads).contains(i % heads) ? all[i] : 0)
              .toArray();
      case "head_outputs", "head_output_gradients" -> {
        List<Integer> kept = model.heads(layer);
        yield places
            .filter(i -> kept.contains(i / config.headDim() % heads))
            .mapToDouble(i -> all[i])
            .toArray();
      }
      case "attentions", "attention_entropies", "attention_gradients" -> {
        List<Integer> kept = model.heads(layer);
        yield places
            .filter(i -> kept.contains(i / (all.length / heads)))
            .mapToDouble(i -> all[i])
            .toArray();
      }
      default -> all;
    };
  }

  /** The error of a state that went through some ten products of rounded inputs. */
  @ParameterizedTest
  @MethodSource("goldens")
  void bfloat16IsCloseToTheNumbers(String name) {
    try (Device device = Device.open("cpu")) {
      assumeTrue(device.supports(DType.BFLOAT16), "this processor has no bfloat16 products");
    }
    try (Golden golden = new Golden(name);
        Model model =
            Model.load(
                golden.folder, ModelOptions.defaults().device("cpu").dtype(DType.BFLOAT16))) {
      Batch batch = golden.batch(model.config());
      double bound = 0.05 * golden.largest(Capture.HIDDEN_STATES);
      try (Activations run = model.run(batch, options(golden, model, Capture.HIDDEN_STATES))) {
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

  @Test
  void wholeBatchViewsAreTheExamplesInOrder() {
    try (Golden golden = new Golden("classification");
        Model model = Model.load(golden.folder)) {
      Batch batch = golden.batch(model.config());
      try (Activations run =
          model.run(
              batch,
              Capture.LOGITS,
              Capture.HIDDEN_STATES,
              Capture.ATTENTIONS,
              Capture.HEAD_GRADIENTS,
              Capture.LOSS)) {
        FloatTensor states = run.hiddenState(3);
        assertArrayEquals(new long[] {batch.tokens(), 32}, states.shape());
        assertArrayEquals(new long[] {5, 3}, run.logits().shape());
        assertArrayEquals(new long[] {5, 3, 4}, run.headGradients().shape());
        assertArrayEquals(new long[] {5}, run.loss().shape());
        int row = 0;
        int pair = 0;
        for (int b = 0; b < batch.examples(); b++) {
          FloatTensor state = run.hiddenState(3, b);
          FloatTensor maps = run.attention(1, b);
          assertEquals(states.get(row, 5), state.get(0, 5));
          assertEquals(run.attention(1).get(pair), maps.get(0, 0, 0));
          assertEquals(run.logits().get(b, 2), run.logits(b).get(2));
          assertEquals(
              run.headGradients().slice(b).slice(2).get(1), run.headGradients().get(b, 2, 1));
          row += batch.length(b);
          pair += 4 * batch.length(b) * batch.length(b);
        }
      }
    }
  }
}
