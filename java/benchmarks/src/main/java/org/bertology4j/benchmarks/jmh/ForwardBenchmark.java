package org.bertology4j.benchmarks.jmh;

import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.Model;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** The last hidden states of all tokens, and nothing else. */
@State(Scope.Benchmark)
public class ForwardBenchmark {
  /** The model. */
  @Param({"bert-base", "bge-small", "gpt2"})
  public String subject;

  /** Inputs of matrix products. */
  @Param({"float32", "bfloat16"})
  public String dtype;

  /** Tokens of each text. */
  @Param({"16", "50", "128", "512", "mixed"})
  public String length;

  /** Texts in the batch. */
  @Param({"1", "16", "64"})
  public int batch;

  private Model model;
  private Batch texts;
  private Capture lastState;

  /** Loads the model. */
  @Setup
  public void load() {
    model = Subjects.load(subject, dtype);
    texts = Subjects.batch(model, batch, length);
    lastState = Capture.HIDDEN_STATES.layers(model.config().numHiddenLayers());
  }

  /** Frees it. */
  @TearDown
  public void close() {
    model.close();
  }

  /** A run. */
  @Benchmark
  public void forward() {
    model.run(texts, lastState).close();
  }
}
