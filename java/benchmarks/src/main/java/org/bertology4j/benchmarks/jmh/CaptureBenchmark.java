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

/** A run with each capture, of all layers where it has layers. */
@State(Scope.Benchmark)
public class CaptureBenchmark {
  /** The model. */
  @Param({"bert-base", "bge-small"})
  public String subject;

  /** Inputs of matrix products. */
  @Param({"float32", "bfloat16"})
  public String dtype;

  /** Tokens of each text. */
  @Param({"mixed", "512"})
  public String length;

  /** Texts in the batch. */
  @Param("16")
  public int batch;

  /** What is captured. */
  @Param({
    "hidden_states",
    "attentions",
    "attention_entropies",
    "head_outputs",
    "head_gradients",
    "token_head_gradients",
    "head_output_gradients",
    "attention_gradients",
    "hidden_state_gradients"
  })
  public String capture;

  private Model model;
  private Batch texts;
  private Capture captured;

  /** Loads the model. */
  @Setup
  public void load() {
    model = Subjects.loadClassifier(subject, dtype);
    texts = Subjects.batch(model, batch, length);
    captured = Capture.parse(capture);
  }

  /** Frees it. */
  @TearDown
  public void close() {
    model.close();
  }

  /** A run. */
  @Benchmark
  public void run() {
    model.run(texts, captured).close();
  }
}
