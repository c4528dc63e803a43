package org.bertology4j.benchmarks.peers;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.bertology4j.BertologyException;

/** ONNX Runtime for Java, on the model's own ONNX file. */
public final class OnnxRuntimePeer implements Peer {
  private final OrtEnvironment environment = OrtEnvironment.getEnvironment();

  /** Made by the service loader. */
  public OnnxRuntimePeer() {}

  @Override
  public String name() {
    return Peers.ONNX_RUNTIME;
  }

  @Override
  public String description() {
    return "ONNX Runtime " + environment.getVersion();
  }

  @Override
  public Prepared prepare(PeerTask task) {
    BertologyException.check(
        task.kind() == PeerTask.Kind.FORWARD, "ONNX Runtime only computes forward");
    try {
      OrtSession.SessionOptions options = new OrtSession.SessionOptions();
      options.setIntraOpNumThreads(task.threads());
      options.setOptimizationLevel(OrtSession.SessionOptions.OptLevel.ALL_OPT);
      OrtSession session = environment.createSession(task.file(PeerTask.ONNX), options);
      List<PeerTask.Padded> batches = task.padded();
      BertologyException.check(
          batches.size() == 1 && batches.get(0).isFull(), "expected one batch of one length");
      PeerTask.Padded batch = batches.get(0);
      Map<String, OnnxTensor> inputs = new LinkedHashMap<>();
      inputs.put("input_ids", tensor(batch.ids(), batch.shape()));
      inputs.put("attention_mask", tensor(batch.mask(), batch.shape()));
      inputs.put("token_type_ids", tensor(new long[batch.ids().length], batch.shape()));
      inputs.keySet().retainAll(session.getInputNames());
      return new Run(session, inputs);
    } catch (OrtException e) {
      throw new IllegalStateException(e);
    }
  }

  private OnnxTensor tensor(long[] values, long[] shape) throws OrtException {
    return OnnxTensor.createTensor(environment, LongBuffer.wrap(values), shape);
  }

  private record Run(OrtSession session, Map<String, OnnxTensor> inputs) implements Prepared {
    @Override
    public void run() {
      try {
        session.run(inputs).close();
      } catch (OrtException e) {
        throw new IllegalStateException(e);
      }
    }

    @Override
    public float[] outputs() {
      try (OrtSession.Result result = session.run(inputs)) {
        FloatBuffer states = ((OnnxTensor) result.get(0)).getFloatBuffer();
        float[] values = new float[states.remaining()];
        states.get(values);
        return values;
      } catch (OrtException e) {
        throw new IllegalStateException(e);
      }
    }
  }
}
