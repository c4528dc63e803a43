package org.bertology4j.benchmarks.peers;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.bertology4j.BertologyException;

/**
 * What a peer is to do, the same for all of them. Written as JSON for those in other processes.
 *
 * @param files where things are: {@link #FOLDER} always
 * @param dtype float32 or bfloat16
 * @param ids of the tokens of each text
 * @param labels of each text
 * @param batch how many texts it takes at a time
 */
public record PeerTask(
    Kind kind,
    Map<String, String> files,
    String dtype,
    int threads,
    List<int[]> ids,
    List<Integer> labels,
    int batch) {
  /** A Hugging Face folder of the model. */
  public static final String FOLDER = "folder";

  /** The model as an ONNX file, where there is one. */
  public static final String ONNX = "onnx";

  /** The model as TorchScript, written by {@link Kind#TRACE}. */
  public static final String TORCHSCRIPT = "torchscript";

  /** Where outputs go: little-endian float32, one behind the other. */
  public static final String OUTPUTS = "outputs";

  /** Kinds of work. */
  public enum Kind {
    /** The paper's importance of each head: the mean over texts of |g|. [layers, heads] */
    IMPORTANCE,
    /**
     * What run_bertology.py does as it is shipped: importance [layers, heads] and entropies
     * [layers, heads].
     */
    IMPORTANCE_OF_THE_SCRIPT,
    /** The last hidden states of all texts. [tokens, hidden] */
    FORWARD,
    /**
     * All hidden states and attention maps; output are those of the first text: [layers + 1, n,
     * hidden], then [layers, heads, n, n].
     */
    CAPTURES,
    /** {@link #FORWARD}, loading the model each time. */
    LOAD,
    /** Writes the model as TorchScript; no output. */
    TRACE
  }

  /** A task. */
  public PeerTask {
    files = Map.copyOf(files);
    ids = ids.stream().map(int[]::clone).toList();
    labels = List.copyOf(labels);
  }

  /** The file of this name, which must be there. */
  public String file(String name) {
    BertologyException.check(files.containsKey(name), "there is no %s file of this model", name);
    return files.get(name);
  }

  /** The texts, those of each batch filled up with 0 to its longest. */
  public List<Padded> padded() {
    return IntStream.iterate(0, at -> at < ids.size(), at -> at + batch)
        .mapToObj(at -> Padded.of(ids.subList(at, Math.min(ids.size(), at + batch))))
        .toList();
  }

  /**
   * Texts of one length.
   *
   * @param ids [texts, length], row by row
   * @param mask the same, 1 for tokens
   */
  public record Padded(int texts, int length, long[] ids, long[] mask) {
    private static Padded of(List<int[]> texts) {
      int length = texts.stream().mapToInt(text -> text.length).max().orElse(0);
      long[] ids = new long[texts.size() * length];
      long[] mask = new long[ids.length];
      for (int i = 0; i < texts.size(); i++) {
        for (int j = 0; j < texts.get(i).length; j++) {
          ids[i * length + j] = texts.get(i)[j];
          mask[i * length + j] = 1;
        }
      }
      return new Padded(texts.size(), length, ids, mask);
    }

    /** Their shape. */
    public long[] shape() {
      return new long[] {texts, length};
    }

    /** Whether nothing is filled up. */
    public boolean isFull() {
      return Arrays.stream(mask).allMatch(m -> m == 1);
    }
  }
}
