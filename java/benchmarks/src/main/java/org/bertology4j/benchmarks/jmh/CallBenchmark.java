package org.bertology4j.benchmarks.jmh;

import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.DType;
import org.bertology4j.Device;
import org.bertology4j.Model;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** What calls of native code cost beside the work that they do. */
@State(Scope.Benchmark)
public class CallBenchmark {
  private Device device;
  private Model model;
  private Batch token;

  /** Loads a tiny model. */
  @Setup
  public void load() {
    device = Device.open("cpu", Subjects.threads());
    model = Subjects.load("tiny", "float32");
    token = Subjects.batch(model, 1, "1");
  }

  /** Frees it. */
  @TearDown
  public void close() {
    model.close();
    device.close();
  }

  /** One call that does nothing. */
  @Benchmark
  public boolean call() {
    return device.supports(DType.FLOAT32);
  }

  /** All calls of a run, with next to no work. */
  @Benchmark
  public void run() {
    model.run(token, Capture.LOGITS).close();
  }
}
