package org.bertology4j.benchmarks;

import java.util.ArrayList;
import java.util.List;
import java.util.OptionalDouble;
import java.util.function.Function;
import org.bertology4j.DType;
import org.bertology4j.benchmarks.peers.PeerTask;

/**
 * Work of this library beside others that do the same.
 *
 * @param dtype inputs of its matrix products, to whose peak it is related
 * @param texts what it works on; others may take the first of them only
 * @param own prepares the work
 * @param opponents what it is compared with
 * @param showsSeconds whether its time is a row of its own
 */
record Comparison(
    String name,
    String title,
    Subject subject,
    DType dtype,
    Texts texts,
    Function<Setting, Timed> own,
    List<Opponent> opponents,
    boolean showsSeconds) {
  Comparison {
    opponents = List.copyOf(opponents);
  }

  /** The row against the machine's matrix products. */
  static final String PEAK = "peak";

  /** The row of its own time. */
  static final String SECONDS = "seconds";

  /**
   * Work that is ready to be done.
   *
   * @param examples how many it does at a time
   * @param flops floating-point operations, where they are known
   */
  record Timed(int examples, OptionalDouble flops, Runnable run) {
    /** Of known operations. */
    static Timed of(int examples, double flops, Runnable run) {
      return new Timed(examples, OptionalDouble.of(flops), run);
    }

    /** Of something that is not counted in operations. */
    static Timed uncounted(int examples, Runnable run) {
      return new Timed(examples, OptionalDouble.empty(), run);
    }
  }

  /** What work is compared with. */
  sealed interface Opponent {
    /** The second half of the row's name. */
    String name();
  }

  /**
   * Another library.
   *
   * @param peer its name
   * @param dtype what it computes in
   * @param examples how many texts it takes, the first of them
   * @param batch how many at a time
   * @param tolerance how far its outputs may be from ours
   */
  record Other(
      String name,
      String peer,
      PeerTask.Kind kind,
      DType dtype,
      int examples,
      int batch,
      double tolerance)
      implements Opponent {}

  /**
   * Another way to do it in this library, or on this machine.
   *
   * @param byArithmetic whether speeds are compared, by operations, instead of times
   */
  record Own(String name, String description, Function<Setting, Timed> work, boolean byArithmetic)
      implements Opponent {}

  /** The names of its rows. */
  List<String> rows() {
    List<String> names =
        new ArrayList<>(opponents.stream().map(o -> name + "/" + o.name()).toList());
    names.add(name + "/" + PEAK);
    if (showsSeconds) {
      names.add(name + "/" + SECONDS);
    }
    return names;
  }
}
