package org.bertology4j.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.bertology4j.Batch;
import org.bertology4j.ModelConfig;
import org.bertology4j.text.Batches;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.Tokenizer;
import org.bertology4j.text.TokenizerOptions;

/** Data sets as batches of a model. */
final class TextBatches {
  /** As many as run fastest: more does not help, and takes memory. */
  static final int TOKENS_PER_BATCH = 4096;

  private TextBatches() {}

  /**
   * The texts as the model's tokenizer cuts them.
   *
   * @param model the folder or file of the model; the tokenizer is in the same folder
   * @param maxLength the most tokens of an example; what the model can take is never exceeded
   * @param examples how many a batch has; as many as run fastest if it is not said
   */
  static List<Batch> of(
      Path model,
      ModelConfig config,
      Dataset data,
      Optional<Integer> maxLength,
      Optional<Integer> examples) {
    int positions = config.maxPositionEmbeddings();
    TokenizerOptions options =
        TokenizerOptions.builder()
            .maxLength(Math.min(positions, maxLength.orElse(positions)))
            .build();
    try (Tokenizer tokenizer = Tokenizer.load(Outputs.modelFolder(model), options)) {
      return examples.isPresent()
          ? Batches.ofExamples(tokenizer, data, examples.get())
          : Batches.ofTokens(tokenizer, data, TOKENS_PER_BATCH);
    }
  }
}
