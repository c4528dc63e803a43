package org.bertology4j.benchmarks;

import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import org.bertology4j.Activations;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.DType;
import org.bertology4j.FloatTensor;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadMask;
import org.bertology4j.HeadScores;
import org.bertology4j.Model;
import org.bertology4j.PruningPlan;
import org.bertology4j.RunOptions;
import org.bertology4j.benchmarks.Comparison.Timed;
import org.bertology4j.benchmarks.peers.PeerTask;
import org.bertology4j.checkpoint.Checkpoint;
import org.bertology4j.cli.Work;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;

/** What this library does in comparisons. */
public final class OwnWork {
  private OwnWork() {}

  /** The last hidden states of all tokens. */
  static Function<Setting, Timed> forward(Subject subject, DType dtype, Texts texts) {
    return setting -> {
      Model model = setting.model(subject, dtype);
      return forward(model, texts.batch(model), lastStates(model));
    };
  }

  /** All hidden states and attention maps. */
  static Function<Setting, Timed> captures(Subject subject, DType dtype, Texts texts) {
    return setting -> {
      Model model = setting.model(subject, dtype);
      return forward(model, texts.batch(model), Capture.HIDDEN_STATES, Capture.ATTENTIONS);
    };
  }

  private static Timed forward(Model model, Batch batch, Capture... captures) {
    double flops = Work.forward(model.config(), batch);
    return Timed.of(batch.examples(), flops, () -> model.run(batch, captures).close());
  }

  private static Capture lastStates(Model model) {
    return Capture.HIDDEN_STATES.layers(model.config().numHiddenLayers());
  }

  /** The importance of all heads. */
  static Function<Setting, Timed> importance(
      Subject subject, DType dtype, Texts texts, boolean entropies) {
    return setting -> {
      Model model = setting.model(subject, dtype);
      Batch batch = texts.batch(model);
      double flops = Work.importance(model.config(), batch);
      return Timed.of(
          batch.examples(),
          flops,
          () -> {
            HeadImportance.Accumulator sums = new HeadImportance.Accumulator(model);
            if (entropies) {
              sums.withEntropies();
            }
            HeadImportance.measure(model, List.of(batch), sums, run -> {});
          });
    };
  }

  /** A random half of the heads pruned. */
  static Function<Setting, Timed> pruned(Subject subject, DType dtype, Texts texts) {
    return setting -> {
      Model model = setting.prunedModel(subject, dtype);
      return forward(model, texts.batch(model), lastStates(model));
    };
  }

  /** A plan for a random part of the heads. */
  public static PruningPlan plan(Model model, double fraction) {
    return PruningPlan.random(model, 1).removeLowest(fraction);
  }

  /** From files that the system has in memory to the first number. */
  static Function<Setting, Timed> load(Subject subject, DType dtype, Texts texts) {
    return setting -> {
      Map<String, String> files = setting.files(subject);
      Batch batch = texts.batch(setting.model(subject, dtype));
      return Timed.uncounted(
          1,
          () -> {
            try (Model model =
                    Model.load(
                        Checkpoint.open(Path.of(files.get(PeerTask.FOLDER))),
                        setting.options(dtype));
                Activations run = model.run(batch, lastStates(model))) {
              run.hiddenState(model.config().numHiddenLayers(), 0).get(0, 0);
            }
          });
    };
  }

  /** All attention maps of a run, copied to an array that is there already. */
  static Function<Setting, Timed> attentionArrays(Subject subject, DType dtype, Texts texts) {
    return setting -> {
      List<FloatTensor> maps = attentionMaps(setting, subject, dtype, texts);
      long largest = maps.stream().mapToLong(FloatTensor::elements).max().orElseThrow();
      float[] to = new float[Math.toIntExact(largest)];
      return Timed.uncounted(texts.count(), () -> maps.forEach(map -> map.copyTo(to, 0)));
    };
  }

  /** All attention maps of a run as new arrays. */
  static Function<Setting, Timed> newAttentionArrays(Subject subject, DType dtype, Texts texts) {
    return setting -> {
      List<FloatTensor> maps = attentionMaps(setting, subject, dtype, texts);
      return Timed.uncounted(texts.count(), () -> maps.forEach(FloatTensor::toArray));
    };
  }

  /** The same bytes by the C library's memcpy, to memory that is there already. */
  static Function<Setting, Timed> memcpy(Subject subject, DType dtype, Texts texts) {
    return setting -> {
      List<FloatPointer> from = new ArrayList<>();
      long largest = 0;
      for (FloatTensor map : attentionMaps(setting, subject, dtype, texts)) {
        FloatBuffer buffer = map.asBuffer();
        from.add(new FloatPointer(buffer));
        largest = Math.max(largest, buffer.capacity());
      }
      FloatPointer to = new FloatPointer(largest);
      Pointer.memset(to, 0, largest * Float.BYTES);
      return Timed.uncounted(
          texts.count(),
          () ->
              from.forEach(
                  map -> Pointer.memcpy(to, map, (map.limit() - map.position()) * Float.BYTES)));
    };
  }

  /** Of a run that stays open as long as the setting. */
  private static List<FloatTensor> attentionMaps(
      Setting setting, Subject subject, DType dtype, Texts texts) {
    Model model = setting.model(subject, dtype);
    Batch batch = texts.batch(model);
    Activations run = setting.keep(model.run(batch, Capture.ATTENTIONS));
    List<FloatTensor> maps = new ArrayList<>();
    for (int layer = 0; layer < model.config().numHiddenLayers(); layer++) {
      for (int example = 0; example < batch.examples(); example++) {
        maps.add(run.attention(layer, example));
      }
    }
    return maps;
  }

  /** The loss without each single head, in one sweep. */
  static Function<Setting, Timed> ablation(Subject subject, DType dtype, Texts texts) {
    return setting -> {
      Model model = setting.model(subject, dtype);
      Batch batch = texts.batch(model);
      RunOptions sweep = RunOptions.capturing(Capture.LOSS).headMasks(singleHeadMasks(model));
      return Timed.uncounted(batch.examples(), () -> model.run(batch, sweep).close());
    };
  }

  /** The loss without each single head, by a whole run for each. */
  static Function<Setting, Timed> fullEvaluations(Subject subject, DType dtype, Texts texts) {
    return setting -> {
      Model model = setting.model(subject, dtype);
      Batch batch = texts.batch(model);
      List<HeadMask> masks = singleHeadMasks(model);
      double flops = masks.size() * Work.forward(model.config(), batch);
      return Timed.of(
          batch.examples(),
          flops,
          () -> {
            for (HeadMask mask : masks) {
              model.run(batch, RunOptions.capturing(Capture.LOSS).headMask(mask)).close();
            }
          });
    };
  }

  /** A mask for each head, without that head. */
  public static List<HeadMask> singleHeadMasks(Model model) {
    HeadMask ones = HeadMask.ones(model.config());
    List<HeadMask> masks = new ArrayList<>();
    for (int layer = 0; layer < ones.layers(); layer++) {
      for (int head = 0; head < ones.heads(); head++) {
        masks.add(ones.with(layer, head, 0));
      }
    }
    return masks;
  }

  /** What a peer must compute, tensor by tensor, out of a model of ours. */
  static List<float[]> outputs(Model model, PeerTask task) {
    Batch batch =
        Batch.of(task.ids().toArray(new int[0][]))
            .withLabels(task.labels().stream().mapToInt(Integer::intValue).toArray());
    int layers = model.config().numHiddenLayers();
    return switch (task.kind()) {
      case IMPORTANCE ->
          List.of(
              floats(
                  HeadImportance.measure(model, List.of(batch)).scores(HeadImportance.Kind.PAPER)));
      case IMPORTANCE_OF_THE_SCRIPT -> {
        HeadImportance importance =
            HeadImportance.measure(
                model,
                List.of(batch),
                new HeadImportance.Accumulator(model).withHf(1).withEntropies(),
                run -> {});
        yield List.of(
            floats(importance.scores(HeadImportance.Kind.HF)), floats(importance.entropy()));
      }
      case FORWARD, LOAD -> {
        try (Activations run = model.run(batch, lastStates(model))) {
          yield List.of(run.hiddenState(layers).toArray());
        }
      }
      case CAPTURES -> {
        try (Activations run = model.run(batch, Capture.HIDDEN_STATES, Capture.ATTENTIONS)) {
          List<float[]> parts = new ArrayList<>();
          for (int layer = 0; layer <= layers; layer++) {
            parts.add(run.hiddenState(layer, 0).toArray());
          }
          for (int layer = 0; layer < layers; layer++) {
            parts.add(run.attention(layer, 0).toArray());
          }
          yield List.copyOf(parts);
        }
      }
      case TRACE -> List.of();
    };
  }

  private static float[] floats(HeadScores scores) {
    float[] flat = new float[scores.layers() * scores.heads()];
    for (int i = 0; i < flat.length; i++) {
      flat[i] = (float) scores.get(i / scores.heads(), i % scores.heads());
    }
    return flat;
  }
}
