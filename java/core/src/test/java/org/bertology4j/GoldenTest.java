package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Every capture against transformers 4.57.6 in float64, example by example. */
class GoldenTest {
  static String[] goldens() {
    return Golden.ALL;
  }

  /** All captures that the golden file has numbers for. */
  private static Capture[] captures(Golden golden) {
    List<Capture> captures = new ArrayList<>();
    for (Capture capture : Capture.all()) {
      if (golden.has(capture + ".0") || golden.has(capture + ".0.0")) {
        captures.add(capture);
      }
    }
    return captures.toArray(new Capture[0]);
  }

  private static List<String> names(Golden golden, Capture capture, int example) {
    List<String> names = new ArrayList<>();
    if (!capture.isLayered()) {
      return List.of(capture + "." + example);
    }
    for (int l = 0; golden.has(capture + "." + l + "." + example); l++) {
      names.add(capture + "." + l + "." + example);
    }
    return names;
  }

  /**
   * States: 2e-6, or twice the reference's own float32 error where that is more. Gradients: 1e-5 of
   * the largest, or the same.
   */
  private static double bound(Golden golden, Capture capture, double[] expected) {
    double reference = 2 * golden.referenceError(capture.toString());
    double largest = Arrays.stream(expected).map(Math::abs).max().orElse(0);
    return Math.max(reference, capture.isGradient() ? 1e-5 * largest : 2e-6);
  }

  private static void compare(Golden golden, Activations run, int inBatch, int inGolden) {
    for (Capture capture : captures(golden)) {
      List<String> names = names(golden, capture, inGolden);
      assertTrue(!names.isEmpty(), capture.toString());
      for (int l = 0; l < names.size(); l++) {
        FloatTensor tensor = run.get(capture, l, inBatch);
        assertArrayEquals(
            Arrays.stream(golden.shape(names.get(l))).asLongStream().toArray(), tensor.shape());
        double[] expected = golden.doubles(names.get(l));
        float[] actual = tensor.toArray();
        double bound = bound(golden, capture, expected);
        for (int i = 0; i < expected.length; i++) {
          assertEquals(expected[i], actual[i], bound, names.get(l) + " element " + i);
        }
      }
    }
  }

  private static RunOptions options(Golden golden, Model model) {
    RunOptions options = RunOptions.capturing(captures(golden)).maskedGradients();
    return model.prunedHeads().isEmpty() ? options.headMask(golden.mask(model.config())) : options;
  }

  @ParameterizedTest
  @MethodSource("goldens")
  void aBatchOfOddLengthsGivesTheNumbersOfEachExampleAlone(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      Batch batch = golden.batch(model.config());
      try (Activations run = model.run(batch, options(golden, model))) {
        for (int b = 0; b < batch.examples(); b++) {
          compare(golden, run, b, b);
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
        try (Activations run = model.run(batch, options(golden, model))) {
          compare(golden, run, 0, b);
        }
      }
    }
  }

  /** With few captures the last layer computes some rows only: another path, the same numbers. */
  @ParameterizedTest
  @MethodSource("goldens")
  void eachCaptureAloneGivesTheSameNumbers(String name) {
    try (Golden golden = new Golden(name);
        Model model = Model.load(golden.folder)) {
      Batch batch = golden.batch(model.config());
      for (Capture capture : captures(golden)) {
        RunOptions options = RunOptions.capturing(capture).maskedGradients();
        if (model.prunedHeads().isEmpty()) {
          options = options.headMask(golden.mask(model.config()));
        }
        try (Activations run = model.run(batch, options)) {
          for (int b = 0; b < batch.examples(); b++) {
            List<String> names = names(golden, capture, b);
            for (int l = 0; l < names.size(); l++) {
              double[] expected = golden.doubles(names.get(l));
              float[] actual = run.get(capture, l, b).toArray();
              double bound = bound(golden, capture, expected);
              for (int i = 0; i < expected.length; i++) {
                assertEquals(expected[i], actual[i], bound, names.get(l) + " element " + i);
              }
            }
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
