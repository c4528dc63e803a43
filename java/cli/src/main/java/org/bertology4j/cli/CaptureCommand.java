package org.bertology4j.cli;

import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.bertology4j.Batch;
import org.bertology4j.BertologyException;
import org.bertology4j.Capture;
import org.bertology4j.Model;
import org.bertology4j.ModelConfig;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.DatasetReader;
import org.bertology4j.text.Documents;
import picocli.CommandLine.Command;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

/** {@code bertology capture}: what a model does inside, as a file for readers in Python. */
@Command(
    name = "capture",
    description =
        "Writes states, attention maps, head outputs and gradients of texts to a safetensors file."
            + " Tensors are padded with zeros to the longest text, rows are in the order of the"
            + " input.")
final class CaptureCommand implements Callable<Integer> {
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
      description =
          ".tsv, .csv or .jsonl with named columns; for a GPT also plain text, a text a line")
  private Path input;

  @Option(
      names = "--text_column",
      defaultValue = "sentence",
      paramLabel = "COLUMN",
      description = "column of the text (default: ${DEFAULT-VALUE})")
  private String textColumn;

  @Option(
      names = "--pair_column",
      paramLabel = "COLUMN",
      description = "column of the second text (default: there is none)")
  private Optional<String> pairColumn = Optional.empty();

  @Option(
      names = "--label_column",
      paramLabel = "COLUMN",
      description = "column of the label, for losses and gradients")
  private Optional<String> labelColumn = Optional.empty();

  @Option(
      names = "--max_seq_length",
      paramLabel = "N",
      description = "cut texts of more tokens (default: what the model can take)")
  private Optional<Integer> maxSequenceLength = Optional.empty();

  @Option(
      names = "--capture",
      required = true,
      split = ",",
      paramLabel = "NAME",
      converter = CaptureConverter.class,
      description =
          "what to write, separated by commas: logits, pooler_output, hidden_states, attentions,"
              + " attention_entropies, head_outputs, loss, head_gradients, token_head_gradients,"
              + " head_output_gradients, attention_gradients, hidden_state_gradients; of a language"
              + " model also token_losses, token_predictions, and of GPT-2 last_block_state")
  private List<Capture> captures;

  @Option(
      names = "--output",
      required = true,
      paramLabel = "FILE",
      description = "the safetensors file to write")
  private Path output;

  @Mixin private DocumentOptions documents;
  @Mixin private ModelArguments arguments;
  @Spec private CommandSpec spec;

  private static final class CaptureConverter implements ITypeConverter<Capture> {
    @Override
    public Capture convert(String name) {
      try {
        return Capture.parse(name);
      } catch (BertologyException e) {
        throw new TypeConversionException(e.getMessage());
      }
    }
  }

  @Override
  public Integer call() {
    PrintWriter out = spec.commandLine().getOut();
    documents.checkUsage(spec);
    if (!Files.exists(model)) {
      requireLabels(); // whatever the model is
    }
    Usage.require(
        maxSequenceLength.orElse(1) > 0,
        spec,
        "--max_seq_length is %d, expected more than 0",
        maxSequenceLength.orElse(1));
    Outputs.checkFile(output);
    try (Model loaded = Model.load(model, arguments.options())) {
      // A GPT's labels are the texts themselves, unless others are named.
      boolean predictsItsText = loaded.hasCausalLm() && labelColumn.isEmpty();
      List<Batch> batches;
      if (predictsItsText && isLanguageModel(loaded.config())) {
        batches = documents(loaded);
      } else {
        requireLabels();
        Usage.require(
            !documents.given(),
            spec,
            "--block_size, --stride, --token_ids and --pad_token_id are for a language model");
        batches =
            TextBatches.of(
                model,
                loaded.config(),
                read(loaded.config()),
                maxSequenceLength,
                Optional.empty(),
                TextBatches.TOKENS_PER_BATCH);
      }
      CaptureFile file = new CaptureFile(loaded, batches, ofTask(captures, loaded.config()));
      file.write(output);
      out.printf(
          Locale.ROOT,
          "%d texts of up to %d tokens: %d tensors in %s%n",
          batches.stream().mapToInt(Batch::examples).sum(),
          file.longest(),
          file.tensors(),
          output);
    }
    return 0;
  }

  private static boolean isLanguageModel(ModelConfig config) {
    return config.task() != ModelConfig.Task.SEQUENCE_CLASSIFICATION;
  }

  private void requireLabels() {
    for (Capture capture : captures) {
      Usage.require(
          labelColumn.isPresent() || !needsLabels(capture),
          spec,
          "--capture %s needs labels: name their column with --label_column",
          capture);
    }
  }

  private static boolean needsLabels(Capture capture) {
    return capture.isGradient() || capture == Capture.LOSS || capture == Capture.TOKEN_LOSSES;
  }

  /** Texts of a language model, labelled with themselves if something of it needs labels. */
  private List<Batch> documents(Model loaded) {
    Documents texts =
        documents.read(input, model, loaded.config(), maxSequenceLength, reader().build());
    return captures.stream().anyMatch(CaptureCommand::needsLabels)
        ? texts.allPredicted().labelledBatchesOfTokens(TextBatches.TOKENS_PER_BATCH)
        : texts.batchesOfTokens(TextBatches.TOKENS_PER_BATCH);
  }

  private Dataset read(ModelConfig config) {
    DatasetReader.Builder reader = reader();
    labelColumn.ifPresent(column -> reader.label(column).labelsOf(config));
    return reader.build().read(input);
  }

  private DatasetReader.Builder reader() {
    DatasetReader.Builder reader = DatasetReader.builder().text(textColumn);
    pairColumn.ifPresent(reader::pair);
    return reader;
  }

  /** "logits" are those of the model's task. */
  private static List<Capture> ofTask(List<Capture> wanted, ModelConfig config) {
    boolean tokens =
        config.task() == ModelConfig.Task.MASKED_LM
            || (config.architecture().isCausal() && isLanguageModel(config));
    return wanted.stream()
        .map(capture -> tokens && capture == Capture.LOGITS ? Capture.TOKEN_LOGITS : capture)
        .distinct()
        .toList();
  }
}
