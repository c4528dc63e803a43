package org.bertology4j;

import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.Consumer;
import java.util.function.IntFunction;

/**
 * The same model on several devices, among which the batches of a data set are divided: batch i
 * goes to model i modulo their number, each of which has a thread of its own. So every number is
 * that of the same device in each pass, and results come in the order of the batches.
 *
 * <p>Whoever changes one of the models changes all, with {@link #forEach}. Owns its models. Safe
 * for use from many threads.
 */
public final class ModelReplicas implements AutoCloseable {
  /** Batches that a model has at once: one in the making, one that is done or waits. */
  private static final int BATCHES_EACH = 2;

  private final List<Model> models;

  private ModelReplicas(List<Model> models) {
    this.models = List.copyOf(models);
  }

  /** These models, which must be of the same shape. At least one. */
  public static ModelReplicas of(Model... models) {
    BertologyException.check(models.length > 0, "at least one model is needed");
    ModelConfig first = models[0].config();
    for (Model model : models) {
      ModelConfig config = model.config();
      BertologyException.check(
          config.numHiddenLayers() == first.numHiddenLayers()
              && config.numAttentionHeads() == first.numAttentionHeads()
              && config.prunedHeads().equals(first.prunedHeads()),
          "models of different shapes: %s and %s",
          first,
          config);
    }
    return new ModelReplicas(List.of(models));
  }

  /**
   * Loads a checkpoint onto each of these devices.
   *
   * @param options how, apart from the device
   * @param devices names, as {@link Device#open(String)} takes them; at least one
   */
  public static ModelReplicas load(Path path, ModelOptions options, List<String> devices) {
    BertologyException.check(!devices.isEmpty(), "at least one device is needed");
    List<Model> loaded = new ArrayList<>();
    try {
      for (String device : devices) {
        loaded.add(Model.load(path, options.device(device)));
      }
      return of(loaded.toArray(new Model[0]));
    } catch (RuntimeException | Error e) {
      loaded.forEach(Model::close);
      throw e;
    }
  }

  /** The models, one a device. */
  public List<Model> models() {
    return models;
  }

  /** The first of the models, which stands for all where they do not differ. */
  public Model first() {
    return models.get(0);
  }

  /** Does it to each model, for example {@code model -> model.pruneHeads(plan)}. */
  public void forEach(Consumer<Model> change) {
    models.forEach(change);
  }

  /**
   * Runs batches, each on one of the models. An interrupt ends it with {@link
   * BertologyException.Kind#INTERRUPTED}; so does what a run or the consumer throws.
   *
   * @param consumer is shown the results in the order of the batches, in the calling thread; they
   *     are closed when it returns
   */
  public void run(Iterable<Batch> batches, RunOptions options, Consumer<Activations> consumer) {
    run(batches, model -> options, consumer, run -> {});
  }

  /**
   * The same with options for each model.
   *
   * @param afterFailure is shown the results of the runs that were under way when something failed,
   *     instead of the consumer
   */
  void run(
      Iterable<Batch> batches,
      IntFunction<RunOptions> options,
      Consumer<Activations> consumer,
      Consumer<Activations> afterFailure) {
    if (models.size() == 1) {
      for (Batch batch : batches) {
        checkInterrupt();
        try (Activations run = first().run(batch, options.apply(0))) {
          consumer.accept(run);
        }
      }
      return;
    }
    List<ExecutorService> threads = models.stream().map(ModelReplicas::threadOf).toList();
    Deque<Future<Activations>> running = new ArrayDeque<>();
    int next = 0;
    try {
      for (Batch batch : batches) {
        if (running.size() == BATCHES_EACH * models.size()) {
          show(running, consumer);
        }
        checkInterrupt();
        int model = next++ % models.size();
        RunOptions chosen = options.apply(model);
        running.add(threads.get(model).submit(() -> models.get(model).run(batch, chosen)));
      }
      while (!running.isEmpty()) {
        show(running, consumer);
      }
    } catch (RuntimeException | Error e) {
      finish(running, afterFailure, e);
      throw e;
    } finally {
      threads.forEach(ExecutorService::shutdown);
    }
  }

  private static ExecutorService threadOf(Model model) {
    return Executors.newSingleThreadExecutor(
        work -> {
          Thread thread = new Thread(work, "bertology " + model.device());
          thread.setDaemon(true);
          return thread;
        });
  }

  private static void checkInterrupt() {
    if (Thread.currentThread().isInterrupted()) {
      throw interrupted();
    }
  }

  private static BertologyException interrupted() {
    return new BertologyException(BertologyException.Kind.INTERRUPTED, "interrupted");
  }

  /** Waits for the run that was begun first. */
  private static void show(Deque<Future<Activations>> running, Consumer<Activations> consumer) {
    try (Activations run = running.element().get()) {
      running.remove();
      consumer.accept(run);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw interrupted();
    } catch (ExecutionException e) {
      running.remove();
      throw causeOf(e);
    }
  }

  private static RuntimeException causeOf(ExecutionException e) {
    if (e.getCause() instanceof Error error) {
      throw error;
    }
    // A run throws nothing that is checked.
    return (RuntimeException) e.getCause();
  }

  /** Waits for all runs, whatever comes; their failures are added to the one that there is. */
  private static void finish(
      Deque<Future<Activations>> running, Consumer<Activations> consumer, Throwable failure) {
    boolean interrupted = Thread.interrupted();
    while (!running.isEmpty()) {
      try {
        show(running, consumer);
      } catch (RuntimeException | Error e) {
        if (Thread.interrupted()) {
          interrupted = true; // the run is still to be waited for
        } else {
          failure.addSuppressed(e);
        }
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** Closes all models. */
  @Override
  public void close() {
    models.forEach(Model::close);
  }

  @Override
  public String toString() {
    return first().config() + " on " + models.stream().map(Model::device).toList();
  }
}
