package org.bertology4j.text;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.bertology4j.Batch;
import org.bertology4j.BertologyException;

/**
 * Turns data sets into batches: the examples in their order, with their labels.
 *
 * <p>Batches have no padding, so that there is nothing to be won by sorting examples by length.
 */
public final class Batches {
  private Batches() {}

  /** Batches of so many examples; the last may have fewer. */
  public static List<Batch> ofExamples(Tokenizer tokenizer, Dataset dataset, int examples) {
    BertologyException.check(examples > 0, "%d examples a batch, expected 1 or more", examples);
    return batches(tokenizer, dataset, examples, Integer.MAX_VALUE);
  }

  /**
   * Batches of at most so many tokens. An example that alone has more is a batch of its own.
   *
   * @param tokens special tokens included
   */
  public static List<Batch> ofTokens(Tokenizer tokenizer, Dataset dataset, int tokens) {
    BertologyException.check(tokens > 0, "%d tokens a batch, expected 1 or more", tokens);
    return batches(tokenizer, dataset, Integer.MAX_VALUE, tokens);
  }

  private static List<Batch> batches(
      Tokenizer tokenizer, Dataset dataset, int mostExamples, int mostTokens) {
    List<Batch> batches = new ArrayList<>();
    List<Tokenizer.Ids> open = new ArrayList<>();
    int start = 0;
    int tokens = 0;
    for (int i = 0; i < dataset.size(); i++) {
      Tokenizer.Ids ids = tokenizer.ids(dataset.text(i), dataset.name() + ": example " + i);
      boolean full = open.size() == mostExamples || tokens > mostTokens - ids.ids().length;
      if (full && !open.isEmpty()) {
        batches.add(batch(dataset, start, open));
        open.clear();
        start = i;
        tokens = 0;
      }
      open.add(ids);
      tokens += ids.ids().length;
    }
    batches.add(batch(dataset, start, open));
    return List.copyOf(batches);
  }

  private static Batch batch(Dataset dataset, int start, List<Tokenizer.Ids> examples) {
    Batch.Builder builder = Batch.builder();
    examples.forEach(ids -> builder.add(ids.ids(), ids.typeIds()));
    Batch batch = builder.build();
    IntStream places = IntStream.range(start, start + examples.size());
    return switch (dataset.labels().kind()) {
      case NONE -> batch;
      case CLASSES -> batch.withLabels(places.map(dataset::classOf).toArray());
      case REGRESSION -> batch.withTargets(targets(dataset, places.toArray()));
    };
  }

  private static float[] targets(Dataset dataset, int[] places) {
    float[] targets = new float[places.length];
    for (int i = 0; i < places.length; i++) {
      targets[i] = (float) dataset.targetOf(places[i]);
    }
    return targets;
  }
}
