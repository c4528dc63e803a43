package org.bertology4j.benchmarks.jmh;

import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.Model;
import org.bertology4j.PruningPlan;
import org.bertology4j.benchmarks.OwnWork;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** Runs without a random part of the heads, masked or pruned; at 0 both are the dense model. */
@State(Scope.Benchmark)
public class PrunedBenchmark {
  /** Inputs of matrix products. */
  @Param({"float32", "bfloat16"})
  public String dtype;

  /** Per cent of the heads that are gone. */
  @Param({"0", "25", "50", "75"})
  public int percent;

  /** How they are gone: masked or pruned. */
  @Param({"masked", "pruned"})
  public String how;

  /** Texts in the batch, as long as those of MRPC. */
  @Param("64")
  public int batch;

  private Model model;
  private Batch texts;
  private Capture lastState;

  /** Loads the model and takes heads out. */
  @Setup
  public void load() {
    model = Subjects.load("bert-base", dtype);
    PruningPlan plan = OwnWork.plan(model, percent / 100.0);
    if (how.equals("pruned")) {
      model.pruneHeads(plan);
    } else {
      model.maskHeads(plan.mask(model.config()));
    }
    texts = Subjects.batch(model, batch, "mixed");
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
