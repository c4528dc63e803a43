package org.bertology4j.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.OptionalInt;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.DatasetReader;
import org.bertology4j.text.Documents;
import org.bertology4j.text.Tokenizer;
import org.bertology4j.text.TokenizerOptions;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;

/** How a language model's texts are read. */
final class DocumentOptions {
  private static final List<String> TABLES = List.of(".tsv", ".csv", ".jsonl");

  @Option(
      names = "--block_size",
      paramLabel = "N",
      description =
          "of a language model: take a file of plain text in blocks of N tokens, not line by line")
  private Optional<Integer> blockSize = Optional.empty();

  @Option(
      names = "--stride",
      paramLabel = "N",
      description =
          "tokens from the start of a block to the start of the next (default: the block size); what"
              + " two blocks have in common is scored once")
  private Optional<Integer> stride = Optional.empty();

  @Option(
      names = "--token_ids",
      description =
          "of a language model: the file has token ids with spaces between them, a text a line")
  private boolean tokenIds;

  @Option(
      names = "--pad_token_id",
      paramLabel = "ID",
      description =
          "with --token_ids: what fills texts up to one length, which is left out at their ends"
              + " (default: nothing)")
  private Optional<Integer> padTokenId = Optional.empty();

  /** Whether one of them is given. */
  boolean given() {
    return blockSize.isPresent() || stride.isPresent() || tokenIds || padTokenId.isPresent();
  }

  void checkUsage(CommandSpec spec) {
    Usage.require(blockSize.orElse(2) > 1, spec, "--block_size is %d, expected 2 or more", size());
    Usage.require(stride.isEmpty() || blockSize.isPresent(), spec, "--stride needs a --block_size");
    Usage.require(
        stride.orElse(1) > 0 && stride.orElse(1) <= size(),
        spec,
        "--stride is %d, expected 1 to %d",
        stride.orElse(1),
        size());
    Usage.require(
        !tokenIds || blockSize.isEmpty(), spec, "--token_ids are not divided into blocks");
    Usage.require(tokenIds || padTokenId.isEmpty(), spec, "--pad_token_id needs --token_ids");
  }

  private int size() {
    return blockSize.orElse(Integer.MAX_VALUE);
  }

  /** Whether a file is a table with named columns. */
  static boolean isTable(Path file) {
    String name = file.toString().toLowerCase(Locale.ROOT);
    return TABLES.stream().anyMatch(name::endsWith);
  }

  /**
   * The texts of a file.
   *
   * @param model the folder or file of the model; the tokenizer is in the same folder
   * @param table how a table is read
   */
  Documents read(
      Path file, Path model, ModelConfig config, Optional<Integer> maxLength, DatasetReader table) {
    int positions = config.maxPositionEmbeddings();
    int most = Math.min(positions, maxLength.orElse(positions));
    if (tokenIds) {
      OptionalInt padding = padTokenId.stream().mapToInt(Integer::intValue).findFirst();
      return Documents.ofIds(file, config.vocabSize(), most, padding);
    }
    TokenizerOptions options = TokenizerOptions.builder().maxLength(most).build();
    try (Tokenizer tokenizer = Tokenizer.load(Outputs.modelFolder(model), options)) {
      if (isTable(file)) {
        BertologyException.check(
            blockSize.isEmpty(), "%s: --block_size is for plain text, this is a table", file);
        Dataset data = table.read(file);
        return Documents.of(data, tokenizer);
      }
      return blockSize.isPresent()
          ? Documents.ofBlocks(file, tokenizer, size(), stride.orElse(size()))
          : Documents.ofLines(file, tokenizer);
    }
  }
}
