package org.bertology4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.Callable;
import org.bertology4j.Batch;
import org.bertology4j.BertologyException;
import org.bertology4j.Capture;
import org.bertology4j.Model;
import org.bertology4j.ModelConfig;
import org.bertology4j.text.Batches;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.DatasetReader;
import org.bertology4j.text.Tokenizer;
import org.bertology4j.text.TokenizerOptions;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code bertology capture}: what a model does inside, as a file for readers in Python. */
@Command(
    name = "capture",
    description = {
      "Writes states, attention maps, head outputs and gradients of texts to a safetensors file.",
      "Tensors are padded with zeros to the longest text, rows are in the order of the input."
    })
final class CaptureCommand implements Callable<Integer> {
  private static final int TOKENS_PER_BATCH = 4096;

  @Option(
      names = "--model_name_or_path",
      required = true,
      paramLabel = "PATH",
      description = "folder or file of the model")
  private Path model;

  @Option(
      names = "--input",
      required = true,
      paramLabel = "FILE",
      description = ".tsv, .csv or .jsonl with named columns")
  private Path input;

  @Option(
      names = "--text_column",
      defaultValue = "sentence",
      description = "default: ${DEFAULT-VALUE}")
  private String textColumn;

  @Option(names = "--pair_column", description = "column of the second text")
  private Optional<String> pairColumn = Optional.empty();

  @Option(names = "--label_column", description = "column of the label, for gradients and losses")
  private Optional<String> labelColumn = Optional.empty();

  @Option(
      names = "--max_seq_length",
      description = "cut longer texts (default: what the model can take)")
  private OptionalInt maxSequenceLength = OptionalInt.empty();

  @Option(
      names = "--capture",
      required = true,
      split = ",",
      paramLabel = "NAME",
      description = {
        "what to write, separated by commas: logits, pooler_output, hidden_states, attentions,",
        "attention_entropies, head_outputs, loss, head_gradients, token_head_gradients,",
        "head_output_gradients, attention_gradients, hidden_state_gradients"
      })
  private List<String> captures;

  @Option(
      names = "--output",
      required = true,
      paramLabel = "FILE",
      description = "the safetensors file to write")
  private Path output;

  @Mixin private ModelArguments arguments;
  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter out = spec.commandLine().getOut();
    List<Capture> wanted = captures.stream().map(CaptureCommand::parse).distinct().toList();
    DatasetReader.Builder reader = DatasetReader.builder().text(textColumn);
    pairColumn.ifPresent(reader::pair);
    try (Model loaded = Model.load(model, arguments.options())) {
      labelColumn.ifPresent(column -> reader.label(column).labelsOf(loaded.config()));
      for (Capture capture : wanted) {
        BertologyException.check(
            labelColumn.isPresent() || !(capture.isGradient() || capture == Capture.LOSS),
            "--capture %s needs labels: name their column with --label_column",
            capture);
      }
      Dataset data = reader.build().read(input);
      TokenizerOptions options =
          TokenizerOptions.builder()
              .maxLength(maxSequenceLength.orElse(loaded.config().maxPositionEmbeddings()))
              .build();
      List<Batch> batches;
      try (Tokenizer tokenizer = Tokenizer.load(model, options)) {
        batches = Batches.ofTokens(tokenizer, data, TOKENS_PER_BATCH);
      }
      CaptureFile file = new CaptureFile(loaded, batches, resolve(wanted, loaded.config()));
      file.write(output);
      out.printf(
          "%d texts of up to %d tokens: %s%n", data.size(), file.longest(), file.summary(output));
    }
    return 0;
  }

  private static Capture parse(String name) {
    return Capture.parse(name.strip());
  }

  /** "logits" are those of the model's task. */
  private static List<Capture> resolve(List<Capture> wanted, ModelConfig config) {
    return wanted.stream()
        .map(
            capture ->
                capture == Capture.LOGITS && config.task() == ModelConfig.Task.MASKED_LM
                    ? Capture.TOKEN_LOGITS
                    : capture)
        .distinct()
        .toList();
  }
}
