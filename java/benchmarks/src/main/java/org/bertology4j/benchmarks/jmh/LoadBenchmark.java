package org.bertology4j.benchmarks.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.stream.Stream;
import org.bertology4j.Activations;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.Model;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** From a Hugging Face folder, which the system has in memory, to the first number. */
@State(Scope.Benchmark)
public class LoadBenchmark {
  /** The model. */
  @Param("bert-base")
  public String subject;

  /** Inputs of matrix products. */
  @Param({"float32", "bfloat16"})
  public String dtype;

  private Path folder;
  private Batch sentence;
  private int last;

  /** Writes the folder. */
  @Setup
  public void save() throws IOException {
    folder = Files.createTempDirectory("bertology-benchmarks");
    try (Model model = Subjects.load(subject, dtype)) {
      model.save(folder);
      sentence = Subjects.batch(model, 1, "16");
      last = model.config().numHiddenLayers();
    }
  }

  /** Deletes it. */
  @TearDown
  public void delete() throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  /** Loads the model and runs a sentence. */
  @Benchmark
  public float firstResult() {
    try (Model model = Model.load(folder, Subjects.options(dtype));
        Activations run = model.run(sentence, Capture.HIDDEN_STATES.layers(last))) {
      return run.hiddenState(last, 0).get(0, 0);
    }
  }
}
