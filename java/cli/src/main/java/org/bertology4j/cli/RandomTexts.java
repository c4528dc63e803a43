package org.bertology4j.cli;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/** Random token ids, for measurements. The same arguments give the same ids. */
public final class RandomTexts {
  /** Tokens of a text of {@link #asLongAsMrpc} on average. */
  public static final int MRPC_LENGTH = 50;

  private static final int MRPC_DEVIATION = 13;
  private static final int MRPC_SHORTEST = 18;
  private static final int MRPC_LONGEST = 100;

  private RandomTexts() {}

  /** Texts as long as the pairs of sentences of MRPC. */
  public static List<int[]> asLongAsMrpc(int texts, int vocabulary) {
    Random random = new Random(1);
    List<int[]> sequences = new ArrayList<>();
    for (int i = 0; i < texts; i++) {
      int tokens = (int) Math.round(MRPC_LENGTH + MRPC_DEVIATION * random.nextGaussian());
      tokens = Math.max(MRPC_SHORTEST, Math.min(MRPC_LONGEST, tokens));
      sequences.add(random.ints(tokens, 0, vocabulary).toArray());
    }
    return sequences;
  }

  /** Texts of one length. */
  public static List<int[]> ofLength(int tokens, int texts, int vocabulary) {
    Random random = new Random(1);
    List<int[]> sequences = new ArrayList<>();
    for (int i = 0; i < texts; i++) {
      sequences.add(random.ints(tokens, 0, vocabulary).toArray());
    }
    return sequences;
  }

  /** Labels of two classes. */
  public static int[] labels(int texts) {
    return new Random(2).ints(texts, 0, 2).toArray();
  }
}
