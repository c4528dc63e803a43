package org.bertology4j.text;

import java.util.Arrays;
import java.util.stream.IntStream;
import org.apache.commons.math3.stat.correlation.PearsonsCorrelation;
import org.apache.commons.math3.stat.correlation.SpearmansCorrelation;
import org.bertology4j.BertologyException;

/**
 * How good predictions are, under the names that Hugging Face's GLUE metrics have.
 *
 * <p>Higher is better, except for {@link #MSE}.
 */
public enum Metric {
  /** Accuracy: the share of predictions that are right. */
  ACC("acc", Labels.Kind.CLASSES) {
    @Override
    double ofClasses(int[] predicted, int[] actual) {
      int right = 0;
      for (int i = 0; i < actual.length; i++) {
        right += predicted[i] == actual[i] ? 1 : 0;
      }
      return (double) right / actual.length;
    }
  },

  /**
   * F1 of class 1 out of the classes 0 and 1. It is 0 where it is undefined, as in scikit-learn:
   * nothing is, and nothing is predicted, class 1.
   */
  F1("f1", Labels.Kind.CLASSES) {
    @Override
    double ofClasses(int[] predicted, int[] actual) {
      int found = 0;
      int positives = 0;
      for (int i = 0; i < actual.length; i++) {
        BertologyException.check(
            (predicted[i] | actual[i]) >>> 1 == 0,
            "f1 is for the classes 0 and 1; example %d is %d, predicted as %d",
            i,
            actual[i],
            predicted[i]);
        found += predicted[i] & actual[i];
        positives += predicted[i] + actual[i];
      }
      return positives == 0 ? 0 : 2.0 * found / positives;
    }
  },

  /** The mean of {@link #ACC} and {@link #F1}. */
  ACC_AND_F1("acc_and_f1", Labels.Kind.CLASSES) {
    @Override
    double ofClasses(int[] predicted, int[] actual) {
      return (ACC.ofClasses(predicted, actual) + F1.ofClasses(predicted, actual)) / 2;
    }
  },

  /**
   * Matthews' correlation, for any number of classes. It is 0 if all predictions, or all labels,
   * are the same class, as in scikit-learn.
   */
  MCC("mcc", Labels.Kind.CLASSES) {
    @Override
    double ofClasses(int[] predicted, int[] actual) {
      int classes =
          1 + IntStream.concat(Arrays.stream(predicted), Arrays.stream(actual)).max().orElse(0);
      long[] ofPredicted = counts(predicted, classes);
      long[] ofActual = counts(actual, classes);
      double n = actual.length;
      double together = 0;
      double predictedSquares = 0;
      double actualSquares = 0;
      for (int c = 0; c < classes; c++) {
        together += (double) ofPredicted[c] * ofActual[c];
        predictedSquares += (double) ofPredicted[c] * ofPredicted[c];
        actualSquares += (double) ofActual[c] * ofActual[c];
      }
      double right = ACC.ofClasses(predicted, actual) * n;
      double spread = (n * n - predictedSquares) * (n * n - actualSquares);
      return spread == 0 ? 0 : (right * n - together) / Math.sqrt(spread);
    }
  },

  /** Pearson's correlation. NaN if all predictions, or all targets, are the same, as in SciPy. */
  PEARSON("pearson", Labels.Kind.REGRESSION) {
    @Override
    double ofNumbers(double[] predicted, double[] actual) {
      return new PearsonsCorrelation().correlation(predicted, actual);
    }
  },

  /**
   * Spearman's rank correlation; equal numbers share the mean of their ranks. NaN if all
   * predictions, or all targets, are the same, as in SciPy.
   */
  SPEARMANR("spearmanr", Labels.Kind.REGRESSION) {
    @Override
    double ofNumbers(double[] predicted, double[] actual) {
      return new SpearmansCorrelation()
          .correlation(withoutNegativeZeros(predicted), withoutNegativeZeros(actual));
    }
  },

  /** The mean of {@link #PEARSON} and {@link #SPEARMANR}. */
  CORR("corr", Labels.Kind.REGRESSION) {
    @Override
    double ofNumbers(double[] predicted, double[] actual) {
      return (PEARSON.ofNumbers(predicted, actual) + SPEARMANR.ofNumbers(predicted, actual)) / 2;
    }
  },

  /** The mean squared error; lower is better. */
  MSE("mse", Labels.Kind.REGRESSION) {
    @Override
    double ofNumbers(double[] predicted, double[] actual) {
      double sum = 0;
      for (int i = 0; i < actual.length; i++) {
        sum += (predicted[i] - actual[i]) * (predicted[i] - actual[i]);
      }
      return sum / actual.length;
    }
  };

  private final String metricName;
  private final Labels.Kind kind;

  Metric(String metricName, Labels.Kind kind) {
    this.metricName = metricName;
    this.kind = kind;
  }

  /** The library would rank -0.0 below 0.0. */
  private static double[] withoutNegativeZeros(double[] values) {
    return Arrays.stream(values).map(value -> value + 0.0).toArray();
  }

  private static long[] counts(int[] classes, int count) {
    long[] counts = new long[count];
    for (int c : classes) {
      counts[c]++;
    }
    return counts;
  }

  /** The metric of this name, such as {@code acc}. */
  public static Metric of(String name) {
    return Arrays.stream(values())
        .filter(metric -> metric.metricName.equalsIgnoreCase(name))
        .findFirst()
        .orElseThrow(
            () ->
                BertologyException.invalid(
                    "unknown metric \"%s\", known are %s", name, Arrays.toString(values())));
  }

  /** Its name, such as {@code acc}. */
  public String metricName() {
    return metricName;
  }

  /** Whether it compares classes or numbers. */
  public Labels.Kind kind() {
    return kind;
  }

  /** Whether more is better. */
  public boolean higherIsBetter() {
    return this != MSE;
  }

  /**
   * Compares classes.
   *
   * @param predicted the class that was predicted for each example
   * @param actual the class of each example
   */
  public double measure(int[] predicted, int[] actual) {
    requireKind(Labels.Kind.CLASSES);
    checkCounts(predicted.length, actual.length, 1);
    for (int i = 0; i < actual.length; i++) {
      BertologyException.check(
          predicted[i] >= 0 && actual[i] >= 0,
          "example %d is of class %d, predicted as %d: classes count from 0",
          i,
          actual[i],
          predicted[i]);
    }
    return ofClasses(predicted, actual);
  }

  /**
   * Compares numbers.
   *
   * @param predicted the number that was predicted for each example
   * @param actual the number of each example
   */
  public double measure(double[] predicted, double[] actual) {
    requireKind(Labels.Kind.REGRESSION);
    checkCounts(predicted.length, actual.length, this == MSE ? 1 : 2);
    for (int i = 0; i < actual.length; i++) {
      BertologyException.check(
          Double.isFinite(predicted[i]) && Double.isFinite(actual[i]),
          "example %d is %s, predicted as %s: expected finite numbers",
          i,
          actual[i],
          predicted[i]);
    }
    return ofNumbers(predicted, actual);
  }

  double ofClasses(int[] predicted, int[] actual) {
    throw new AssertionError(this);
  }

  double ofNumbers(double[] predicted, double[] actual) {
    throw new AssertionError(this);
  }

  private void requireKind(Labels.Kind given) {
    BertologyException.check(
        kind == given,
        "%s compares %s",
        metricName,
        kind == Labels.Kind.CLASSES ? "classes, not numbers" : "numbers, not classes");
  }

  private void checkCounts(int predicted, int actual, int least) {
    BertologyException.check(
        predicted == actual, "%d predictions for %d examples", predicted, actual);
    BertologyException.check(
        actual >= least, "%s of %d examples, expected %d or more", metricName, actual, least);
  }

  /** Its name, such as {@code acc}. */
  @Override
  public String toString() {
    return metricName;
  }
}
