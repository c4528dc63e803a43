package org.bertology4j.internal;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.bertology4j.BertologyException;
import org.bertology4j.checkpoint.Checkpoint;
import org.bertology4j.checkpoint.StoredTensor;
import org.bertology4j.internal.binding.bertology_tensor;

/** Reads parameters of a checkpoint, each tensor while the one before it is being used. */
public final class ReadAhead {
  private final Checkpoint checkpoint;
  private final List<Group> groups = new ArrayList<>();

  /** Parameters that share a tensor. */
  private record Group(StoredTensor tensor, List<ParameterMap.Entry> entries) {}

  /** What is done with a parameter. Its memory is valid during the call. */
  public interface Use {
    void accept(ParameterMap.Entry entry, bertology_tensor tensor);
  }

  /** Reads these parameters, whose tensors the checkpoint has. */
  public ReadAhead(Checkpoint checkpoint, List<ParameterMap.Entry> entries) {
    this.checkpoint = checkpoint;
    Map<StoredTensor, List<ParameterMap.Entry>> byTensor = new LinkedHashMap<>();
    for (ParameterMap.Entry entry : entries) {
      byTensor
          .computeIfAbsent(
              checkpoint.tensors().get(entry.huggingFace()), tensor -> new ArrayList<>())
          .add(entry);
    }
    byTensor.forEach((tensor, sharing) -> groups.add(new Group(tensor, sharing)));
  }

  /**
   * Uses the parameters, those that share a tensor one after another. A {@link BertologyException}
   * names the checkpoint and the tensor. Nothing is being read any more when this returns or
   * throws.
   */
  public void forEach(Use use) {
    ExecutorService reader =
        Executors.newSingleThreadExecutor(
            task -> {
              Thread thread = new Thread(task, "bertology-reader");
              thread.setDaemon(true);
              return thread;
            });
    Future<?> reading = null;
    try {
      TensorStaging read = new TensorStaging(1);
      TensorStaging used = new TensorStaging(1);
      reading = submit(reader, 0, read);
      for (int i = 0; i < groups.size(); i++) {
        Group group = groups.get(i);
        TensorStaging filled = read;
        try {
          await(reading);
          read = used;
          used = filled;
          reading = submit(reader, i + 1, read);
          for (ParameterMap.Entry entry : group.entries()) {
            filled.read(0, checkpoint, group.tensor(), entry); // there already: described only
            use.accept(entry, filled.tensors());
          }
        } catch (BertologyException e) {
          throw new BertologyException(
              e.kind(),
              checkpoint.source() + ": tensor " + group.tensor().name() + ": " + e.getMessage(),
              e);
        }
      }
    } finally {
      reader.shutdown();
      awaitEnd(reading);
    }
  }

  /** The checkpoint may be closed next: not while it is being read. */
  private static void awaitEnd(Future<?> reading) {
    boolean interrupted = false;
    while (reading != null) {
      try {
        reading.get();
        reading = null;
      } catch (ExecutionException e) {
        reading = null; // what failed before it is what is told
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private Future<?> submit(ExecutorService reader, int index, TensorStaging target) {
    if (index == groups.size()) {
      return null;
    }
    Group group = groups.get(index);
    return reader.submit(() -> target.read(0, checkpoint, group.tensor(), group.entries().get(0)));
  }

  private static void await(Future<?> reading) {
    try {
      if (Thread.interrupted()) { // get() would not look if it need not wait
        throw new InterruptedException();
      }
      reading.get();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new BertologyException(
          BertologyException.Kind.INTERRUPTED, "interrupted while reading", e);
    } catch (ExecutionException e) {
      if (e.getCause() instanceof BertologyException expected) {
        throw new BertologyException(expected.kind(), expected.getMessage(), expected);
      }
      if (e.getCause() instanceof RuntimeException unexpected) {
        throw unexpected;
      }
      if (e.getCause() instanceof Error error) {
        throw error;
      }
      throw new IllegalStateException(e.getCause());
    }
  }
}
