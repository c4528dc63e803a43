package org.bertology4j.benchmarks.peers;

import ai.djl.Device;
import ai.djl.MalformedModelException;
import ai.djl.Model;
import ai.djl.engine.Engine;
import ai.djl.inference.Predictor;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.Shape;
import ai.djl.translate.NoopTranslator;
import ai.djl.translate.TranslateException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.bertology4j.BertologyException;

/** DJL's PyTorch engine, on the model as TorchScript. */
public final class DjlPeer implements Peer {
  private static final String ENGINE = "PyTorch";

  /** Made by the service loader. */
  public DjlPeer() {}

  @Override
  public String name() {
    return Peers.DJL;
  }

  @Override
  public String description() {
    return "DJL " + Engine.getDjlVersion() + ", PyTorch " + Engine.getEngine(ENGINE).getVersion();
  }

  @Override
  public Prepared prepare(PeerTask task) {
    BertologyException.check(
        task.kind() == PeerTask.Kind.FORWARD, "DJL's engine only computes forward here");
    // Read when the engine starts.
    System.setProperty("ai.djl.pytorch.num_threads", String.valueOf(task.threads()));
    System.setProperty("ai.djl.pytorch.num_interop_threads", "1");
    Path file = Path.of(task.file(PeerTask.TORCHSCRIPT));
    Model model = Model.newInstance("model", Device.cpu(), ENGINE);
    try {
      model.load(file.getParent(), file.getFileName().toString());
    } catch (IOException | MalformedModelException e) {
      throw new IllegalStateException(e);
    }
    List<PeerTask.Padded> batches = task.padded();
    BertologyException.check(
        batches.size() == 1 && batches.get(0).isFull(), "expected one batch of one length");
    PeerTask.Padded batch = batches.get(0);
    NDManager manager = model.getNDManager();
    Shape shape = new Shape(batch.shape());
    NDList inputs =
        new NDList(
            manager.create(batch.ids(), shape),
            manager.create(batch.mask(), shape),
            manager.create(new long[batch.ids().length], shape));
    return new Run(model.newPredictor(new NoopTranslator()), inputs);
  }

  private record Run(Predictor<NDList, NDList> predictor, NDList inputs) implements Prepared {
    @Override
    public void run() {
      predict().close();
    }

    @Override
    public float[] outputs() {
      try (NDList result = predict()) {
        return result.get(0).toFloatArray();
      }
    }

    private NDList predict() {
      try {
        return predictor.predict(inputs);
      } catch (TranslateException e) {
        throw new IllegalStateException(e);
      }
    }
  }
}
