package org.bertology4j.benchmarks.jmh;

import java.nio.FloatBuffer;
import org.bertology4j.Activations;
import org.bertology4j.Capture;
import org.bertology4j.FloatTensor;
import org.bertology4j.Model;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** Reading the attention maps of a text of one layer. */
@State(Scope.Benchmark)
public class AccessBenchmark {
  /** Tokens of the text. */
  @Param({"50", "512"})
  public String length;

  private Model model;
  private Activations run;
  private FloatTensor maps;
  private FloatBuffer buffer;
  private FloatPointer memory;
  private FloatPointer copy;
  private float[] array;

  /** Runs the model. */
  @Setup
  public void run() {
    model = Subjects.load("bert-base", "float32");
    run = model.run(Subjects.batch(model, 1, length), Capture.ATTENTIONS.layers(0));
    maps = run.attention(0, 0);
    buffer = maps.asBuffer();
    memory = new FloatPointer(buffer);
    copy = new FloatPointer(maps.elements());
    array = new float[Math.toIntExact(maps.elements())];
  }

  /** Frees it. */
  @TearDown
  public void close() {
    copy.close();
    run.close();
    model.close();
  }

  /** Every element, by its indices. */
  @Benchmark
  public float byIndex() {
    float sum = 0;
    for (long head = 0; head < maps.size(0); head++) {
      for (long i = 0; i < maps.size(1); i++) {
        for (long j = 0; j < maps.size(2); j++) {
          sum += maps.get(head, i, j);
        }
      }
    }
    return sum;
  }

  /** Every element, out of a direct buffer. */
  @Benchmark
  public float directBuffer() {
    float sum = 0;
    for (int i = 0; i < buffer.capacity(); i++) {
      sum += buffer.get(i);
    }
    return sum;
  }

  /** All, to an array that is there already. */
  @Benchmark
  public float[] copyToArray() {
    maps.copyTo(array, 0);
    return array;
  }

  /** All as a new array. */
  @Benchmark
  public float[] array() {
    return maps.toArray();
  }

  /** The same bytes by the C library's memcpy. */
  @Benchmark
  public Pointer memcpy() {
    return Pointer.memcpy(copy, memory, maps.elements() * Float.BYTES);
  }
}
