package org.bertology4j.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.bertology4j.Activations;
import org.bertology4j.BertologyException;
import org.bertology4j.DType;
import org.bertology4j.Device;
import org.bertology4j.Model;
import org.bertology4j.ModelOptions;
import org.bertology4j.benchmarks.peers.PeerTask;

/** The device and the models that are measured, and their files for others. */
final class Setting implements AutoCloseable {
  private final Device device;
  private final int threads;
  private final boolean tiny;
  private final Path work;
  private final Map<String, Model> models = new HashMap<>();
  private final List<Activations> kept = new ArrayList<>();

  /**
   * A setting.
   *
   * @param tiny whether a tiny model takes the place of all others
   */
  Setting(int threads, boolean tiny) {
    this.threads = threads;
    this.tiny = tiny;
    this.device = Device.open("cpu", threads);
    try {
      work = Files.createTempDirectory("bertology-benchmarks");
    } catch (IOException e) {
      device.close();
      throw BertologyException.io(e, "there is no folder for temporary files: %s", e);
    }
  }

  Device device() {
    return device;
  }

  int threads() {
    return threads;
  }

  boolean isTiny() {
    return tiny;
  }

  /** A folder for files that are deleted at the end. */
  Path work() {
    return work;
  }

  ModelOptions options(DType dtype) {
    return ModelOptions.defaults().device(device).dtype(dtype);
  }

  private Subject actual(Subject subject) {
    return tiny ? Subject.TINY : subject;
  }

  /** A model, with all its heads, which stays open for the next one who asks. */
  Model model(Subject subject, DType dtype) {
    return models.computeIfAbsent(actual(subject) + " " + dtype, key -> load(subject, dtype));
  }

  /** The same with a random half of its heads pruned. */
  Model prunedModel(Subject subject, DType dtype) {
    return models.computeIfAbsent(
        actual(subject) + " pruned " + dtype,
        key -> {
          Model model = load(subject, dtype);
          model.pruneHeads(OwnWork.plan(model, 0.5));
          return model;
        });
  }

  /** Closes it in the end, before the models. */
  Activations keep(Activations run) {
    kept.add(run);
    return run;
  }

  /** A model that the caller closes. */
  Model load(Subject subject, DType dtype) {
    return Model.load(actual(subject).open(), options(dtype));
  }

  /** Files of a model for others, written when they are first asked for. */
  Map<String, String> files(Subject subject) {
    Subject actual = actual(subject);
    Path folder = work.resolve(actual.toString());
    if (!Files.isDirectory(folder)) {
      model(subject, DType.FLOAT32).save(folder);
    }
    Map<String, String> files = new HashMap<>();
    files.put(PeerTask.FOLDER, folder.toString());
    if (actual == Subject.BGE_SMALL) {
      files.put(PeerTask.ONNX, Subject.bgeSmallFolder().resolve("model.onnx").toString());
    }
    return files;
  }

  /** What this is measured on. */
  List<String> machine() {
    List<String> lines = new ArrayList<>(device.description().lines().toList());
    lines.add("java: " + Runtime.version());
    if (tiny) {
      lines.add("tiny models: these figures mean nothing");
    }
    return lines;
  }

  @Override
  public void close() {
    kept.forEach(Activations::close);
    models.values().forEach(Model::close);
    device.close();
    try (Stream<Path> files = Files.walk(work)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    } catch (IOException e) {
      throw BertologyException.io(e, "%s cannot be deleted: %s", work, e);
    }
  }
}
