package org.bertology4j.benchmarks.jmh;

import java.util.List;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.HeadMask;
import org.bertology4j.Model;
import org.bertology4j.RunOptions;
import org.bertology4j.benchmarks.OwnWork;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** The loss without each single head. */
@State(Scope.Benchmark)
public class AblationBenchmark {
  /** The model. */
  @Param({"bert-base", "bge-small"})
  public String subject;

  /** Inputs of matrix products. */
  @Param({"float32", "bfloat16"})
  public String dtype;

  /** Texts in the batch, as long as those of MRPC. */
  @Param("16")
  public int batch;

  private Model model;
  private Batch texts;
  private List<HeadMask> masks;

  /** Loads the model. */
  @Setup
  public void load() {
    model = Subjects.loadClassifier(subject, dtype);
    texts = Subjects.batch(model, batch, "mixed");
    masks = OwnWork.singleHeadMasks(model);
  }

  /** Frees it. */
  @TearDown
  public void close() {
    model.close();
  }

  /** All in one run. */
  @Benchmark
  public void sweep() {
    model.run(texts, RunOptions.capturing(Capture.LOSS).headMasks(masks)).close();
  }

  /** As many whole runs as there are heads. */
  @Benchmark
  public void fullEvaluations() {
    for (HeadMask mask : masks) {
      model.run(texts, RunOptions.capturing(Capture.LOSS).headMask(mask)).close();
    }
  }
}
