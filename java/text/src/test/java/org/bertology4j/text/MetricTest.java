package org.bertology4j.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import java.io.IOException;
import java.io.Reader;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

class MetricTest {
  /**
   * Commons Math takes differences of sums of squares, which costs correlations near 0 some digits.
   */
  private static final double TOLERANCE = 1e-9;

  record Case(String name, double[] predicted, double[] actual, Map<String, String> metrics) {
    double measure(Metric metric) {
      return metric.kind() == Labels.Kind.CLASSES
          ? metric.measure(ints(predicted), ints(actual))
          : metric.measure(predicted, actual);
    }
  }

  private static int[] ints(double[] values) {
    return Arrays.stream(values).mapToInt(value -> (int) value).toArray();
  }

  /** metric_golden.py made what is expected. */
  @Test
  void sameAsScikitLearnAndSciPy() throws IOException {
    List<Case> cases;
    try (Reader reader = Expect.reader("metric/golden.json")) {
      cases = new Gson().fromJson(reader, new TypeToken<List<Case>>() {}.getType());
    }
    assertEquals(23, cases.size());
    Set<Metric> seen = EnumSet.noneOf(Metric.class);
    for (Case expected : cases) {
      expected
          .metrics()
          .forEach(
              (name, value) -> {
                Metric metric = Metric.of(name);
                seen.add(metric);
                double wanted = Double.parseDouble(value);
                assertEquals(
                    wanted,
                    expected.measure(metric),
                    Double.isNaN(wanted) ? 0 : TOLERANCE * Math.max(1, Math.abs(wanted)),
                    expected.name() + ": " + name);
              });
    }
    assertEquals(EnumSet.allOf(Metric.class), seen);
  }

  @Test
  void namesAreHuggingFaces() {
    assertEquals(
        List.of("acc", "f1", "acc_and_f1", "mcc", "pearson", "spearmanr", "corr", "mse"),
        Arrays.stream(Metric.values()).map(Metric::metricName).toList());
    assertEquals(Metric.ACC_AND_F1, Metric.of("ACC_and_F1"));
    Expect.invalid(() -> Metric.of("bleu"), "\"bleu\"", "spearmanr");
    assertTrue(Metric.MCC.higherIsBetter());
    assertFalse(Metric.MSE.higherIsBetter());
  }

  @Test
  void saysWhatIsWrong() {
    int[] classes = {0, 1};
    double[] numbers = {0, 1};
    Expect.invalid(() -> Metric.ACC.measure(numbers, numbers), "acc", "classes, not numbers");
    Expect.invalid(() -> Metric.CORR.measure(classes, classes), "corr", "numbers, not classes");
    Expect.invalid(() -> Metric.ACC.measure(new int[3], classes), "3 predictions for 2");
    Expect.invalid(() -> Metric.ACC.measure(new int[0], new int[0]), "0 examples", "1 or more");
    Expect.invalid(
        () -> Metric.PEARSON.measure(new double[1], new double[1]), "1 examples", "2 or more");
    Expect.invalid(() -> Metric.ACC.measure(new int[] {0, -1}, classes), "example 1", "as -1");
    Expect.invalid(() -> Metric.F1.measure(new int[] {0, 2}, classes), "example 1", "as 2");
    Expect.invalid(
        () -> Metric.MSE.measure(new double[] {0, Double.NaN}, numbers), "example 1", "NaN");
  }
}
