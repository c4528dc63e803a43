package org.bertology4j.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.bertology4j.Batch;
import org.bertology4j.ModelConfig;
import org.bertology4j.ModelReplicas;
import org.bertology4j.text.Batches;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.Tokenizer;
import org.bertology4j.text.TokenizerOptions;

/** Data sets as batches of a model. */
final class TextBatches {
  /** As many as run fastest: more does not help, and takes memory. */
  static final int TOKENS_PER_BATCH = 4096;

  /** The same of a sweep over many masks, whose batches take long on a CPU. */
  private static final int SWEPT_TOKENS_ON_CPU = 512;

  private static final int SWEPT_TOKENS = 8192;

  private TextBatches() {}

  /**
   * How many tokens a batch of a sweep has: enough for the device, few enough to be interrupted.
   */
  static int tokensOfSweep(ModelReplicas models) {
    boolean cpu = models.models().stream().anyMatch(model -> model.device().name().equals("cpu"));
    return cpu ? SWEPT_TOKENS_ON_CPU : SWEPT_TOKENS;
  }

  /**
   * The texts as the model's tokenizer cuts them.
   *
   * @param model the folder or file of the model; the tokenizer is in the same folder
   * @param maxLength the most tokens of an example; what the model can take is never exceeded
   * @param examples how many a batch has; so many tokens if it is not said
   * @param tokens how many tokens a batch has at most, unless one text has more
   */
  static List<Batch> of(
      Path model,
      ModelConfig config,
      Dataset data,
      Optional<Integer> maxLength,
      Optional<Integer> examples,
      int tokens) {
    int positions = config.maxPositionEmbeddings();
    TokenizerOptions options =
        TokenizerOptions.builder()
            .maxLength(Math.min(positions, maxLength.orElse(positions)))
            .build();
    try (Tokenizer tokenizer = Tokenizer.load(Outputs.modelFolder(model), options)) {
      return examples.isPresent()
          ? Batches.ofExamples(tokenizer, data, examples.get())
          : Batches.ofTokens(tokenizer, data, tokens);
    }
  }
}
