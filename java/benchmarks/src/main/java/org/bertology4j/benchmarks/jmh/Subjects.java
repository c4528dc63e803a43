package org.bertology4j.benchmarks.jmh;

import org.bertology4j.Batch;
import org.bertology4j.DType;
import org.bertology4j.Model;
import org.bertology4j.ModelOptions;
import org.bertology4j.benchmarks.Subject;
import org.bertology4j.benchmarks.Texts;

/** Models and batches by the names that parameters of benchmarks have. */
public final class Subjects {
  /** The system property with the number of threads; 0 for as many as there are. */
  public static final String THREADS = "bertology.benchmarks.threads";

  private Subjects() {}

  static int threads() {
    return Integer.getInteger(THREADS, 0);
  }

  static ModelOptions options(String dtype) {
    return ModelOptions.defaults().device("cpu").threads(threads()).dtype(DType.parse(dtype));
  }

  static Model load(String subject, String dtype) {
    return Model.load(Subject.named(subject).open(), options(dtype));
  }

  /** With a classifier of two classes if it is no causal model, so that there is a loss. */
  static Model loadClassifier(String subject, String dtype) {
    Model model = load(subject, dtype);
    Subject.completeClassifier(model);
    return model;
  }

  static Batch batch(Model model, int examples, String length) {
    return Texts.of(examples, length).batch(model);
  }
}
