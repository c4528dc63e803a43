package org.bertology4j.benchmarks;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.DoubleSupplier;
import java.util.stream.IntStream;
import org.bertology4j.BertologyException;
import org.bertology4j.DType;
import org.bertology4j.Model;
import org.bertology4j.benchmarks.Comparison.Opponent;
import org.bertology4j.benchmarks.Comparison.Other;
import org.bertology4j.benchmarks.Comparison.Own;
import org.bertology4j.benchmarks.Comparison.Timed;
import org.bertology4j.benchmarks.peers.Agreement;
import org.bertology4j.benchmarks.peers.PeerTask;
import org.bertology4j.benchmarks.peers.Peers;
import org.bertology4j.benchmarks.peers.Worker;
import org.bertology4j.cli.RandomTexts;

/** Runs comparisons: in each round the machine's peak, this library, and each of the others. */
final class Session {
  private static final double SECONDS_OF_A_PEAK = 0.2;

  /** Threads of other libraries spin for a while after their work. */
  private static final long MILLISECONDS_BETWEEN = 250;

  private final Setting setting;
  private final Peers peers;
  private final int rounds;
  private final List<Benchmark> benchmarks = new ArrayList<>();
  private final List<Row> rows = new ArrayList<>();

  Session(Setting setting, Peers peers, int rounds) {
    this.setting = setting;
    this.peers = peers;
    this.rounds = rounds;
  }

  Results results() {
    return Results.of(setting.machine(), benchmarks, rows);
  }

  void add(Row row) {
    rows.add(row);
  }

  void add(Benchmark benchmark) {
    benchmarks.add(benchmark);
  }

  /** Somebody who takes part. */
  private static final class Contestant {
    private final String name;
    private final String description;
    private final DoubleSupplier run;
    private final int examples;

    /** What its times per example are multiplied by, so that operations are compared. */
    private final double factor;

    private final List<Agreement> agreement;
    private final List<Double> seconds = new ArrayList<>();

    Contestant(
        String name,
        String description,
        DoubleSupplier run,
        int examples,
        double factor,
        List<Agreement> agreement) {
      this.name = name;
      this.description = description;
      this.run = run;
      this.examples = examples;
      this.factor = factor;
      this.agreement = agreement;
    }

    List<Double> perExample() {
      return seconds.stream().map(s -> s / examples).toList();
    }
  }

  private static double seconds(Runnable work) {
    long start = System.nanoTime();
    work.run();
    return (System.nanoTime() - start) * 1e-9;
  }

  void run(Comparison comparison) {
    if (!setting.device().supports(comparison.dtype())) {
      for (String row : comparison.rows()) {
        rows.add(
            Row.notRun(
                row,
                comparison.title(),
                "",
                "this processor does not multiply " + comparison.dtype()));
      }
      return;
    }
    Timed work = comparison.own().apply(setting);
    Contestant own =
        new Contestant(
            comparison.name(), "", () -> seconds(work.run()), work.examples(), 1, List.of());
    List<Contestant> others = new ArrayList<>();
    List<Row> notRun = new ArrayList<>();
    List<Worker> workers = new ArrayList<>();
    try {
      for (Opponent opponent : comparison.opponents()) {
        try {
          others.add(contestant(comparison, work, opponent, workers));
        } catch (BertologyException e) {
          notRun.add(
              Row.notRun(
                  comparison.name() + "/" + opponent.name(),
                  comparison.title(),
                  opponent.name(),
                  e.getMessage()));
        }
      }
      List<Double> peaks = measure(comparison.dtype(), own, others);
      report(comparison, work, own, others, peaks);
    } finally {
      workers.forEach(Worker::close);
    }
    rows.addAll(notRun);
  }

  private Contestant contestant(
      Comparison comparison, Timed work, Opponent opponent, List<Worker> workers) {
    if (opponent instanceof Own own) {
      Timed other = own.work().apply(setting);
      double factor =
          own.byArithmetic() ? work.flops().orElseThrow() / other.flops().orElseThrow() : 1;
      return new Contestant(
          own.name(),
          own.description(),
          () -> seconds(other.run()),
          other.examples(),
          factor,
          List.of());
    }
    Other other = (Other) opponent;
    Map<String, String> files = new HashMap<>(setting.files(comparison.subject()));
    files.put(PeerTask.OUTPUTS, setting.work().resolve("outputs").toString());
    PeerTask task = task(comparison, other, files);
    if (other.peer().equals(Peers.DJL)) {
      task = traced(task);
    }
    Worker worker = peers.start(other.peer());
    workers.add(worker);
    String description = worker.describe();
    worker.prepare(task);
    Model model = setting.model(comparison.subject(), comparison.dtype());
    Agreement agreement =
        Agreement.between(
            OwnWork.outputs(model, task), Path.of(task.file(PeerTask.OUTPUTS)), other.tolerance());
    return new Contestant(
        other.name(), description, worker::run, other.examples(), 1, List.of(agreement));
  }

  private PeerTask task(Comparison comparison, Other other, Map<String, String> files) {
    Model model = setting.model(comparison.subject(), comparison.dtype());
    int[] labels = RandomTexts.labels(comparison.texts().count());
    return new PeerTask(
        other.kind(),
        files,
        other.dtype().toString(),
        setting.threads(),
        comparison.texts().ids(model).subList(0, other.examples()),
        IntStream.range(0, other.examples()).mapToObj(i -> labels[i]).toList(),
        other.batch());
  }

  /** The task with the model as TorchScript, which transformers writes. */
  private PeerTask traced(PeerTask task) {
    Map<String, String> files = new HashMap<>(task.files());
    files.put(PeerTask.TORCHSCRIPT, setting.work().resolve("traced.pt").toString());
    PeerTask trace = withKind(task, PeerTask.Kind.TRACE, files);
    try (Worker tracer = peers.start(Peers.TRANSFORMERS)) {
      tracer.prepare(trace);
    } catch (BertologyException e) {
      throw new BertologyException(
          e.kind(), "it needs TorchScript, which transformers writes: " + e.getMessage(), e);
    }
    return withKind(task, task.kind(), files);
  }

  private static PeerTask withKind(PeerTask task, PeerTask.Kind kind, Map<String, String> files) {
    return new PeerTask(
        kind, files, task.dtype(), task.threads(), task.ids(), task.labels(), task.batch());
  }

  /** Rounds, after one that does not count; the matrix-product peak in each. */
  private List<Double> measure(DType dtype, Contestant own, List<Contestant> others) {
    List<Contestant> order = new ArrayList<>(others);
    order.add(0, own);
    List<Double> peaks = new ArrayList<>();
    for (int round = -1; round < rounds; round++) {
      pause();
      double peak = setting.device().matrixPeak(dtype, SECONDS_OF_A_PEAK);
      if (round >= 0) {
        peaks.add(peak);
      }
      for (Contestant contestant : order) {
        pause();
        double seconds = contestant.run.getAsDouble();
        if (round >= 0) {
          contestant.seconds.add(seconds);
        }
      }
      // Who comes behind whom is not always the same.
      Collections.rotate(order, 1);
    }
    return peaks;
  }

  private static void pause() {
    try {
      Thread.sleep(MILLISECONDS_BETWEEN);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new BertologyException(BertologyException.Kind.INTERRUPTED, "interrupted", e);
    }
  }

  private void report(
      Comparison comparison,
      Timed work,
      Contestant own,
      List<Contestant> others,
      List<Double> peaks) {
    boolean byOther =
        work.flops().isEmpty() && comparison.opponents().stream().anyMatch(o -> o instanceof Own);
    for (Contestant other : others) {
      List<Double> ratios =
          IntStream.range(0, rounds)
              .mapToObj(i -> other.perExample().get(i) / own.perExample().get(i) * other.factor)
              .toList();
      rows.add(
          new Row(
              comparison.name() + "/" + other.name,
              comparison.title(),
              other.description,
              "×",
              ratios,
              own.perExample(),
              other.perExample(),
              other.agreement,
              List.of()));
      if (byOther) {
        benchmarks.add(new Benchmark(comparison.name(), Measure.RATIO, ratios, own.seconds));
      }
    }
    if (work.flops().isPresent()) {
      Benchmark share =
          Benchmark.ofWork(comparison.name(), work.flops().getAsDouble(), own.seconds, peaks);
      benchmarks.add(share);
      rows.add(alone(comparison, Comparison.PEAK, own, "of the peak", share.values()));
    } else if (!byOther) {
      benchmarks.add(Benchmark.ofTime(comparison.name(), own.seconds, peaks));
    }
    if (comparison.showsSeconds()) {
      rows.add(alone(comparison, Comparison.SECONDS, own, "s", own.seconds));
    }
  }

  private static Row alone(
      Comparison comparison, String name, Contestant own, String measure, List<Double> values) {
    String other = name.equals(Comparison.PEAK) ? "this machine's matrix products" : "";
    return new Row(
        comparison.name() + "/" + name,
        comparison.title(),
        other,
        measure,
        values,
        own.perExample(),
        List.of(),
        List.of(),
        List.of());
  }
}
