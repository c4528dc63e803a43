package org.bertology4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.bertology4j.BertologyException;
import org.bertology4j.HeadMask;
import org.bertology4j.Heads;
import org.bertology4j.Model;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code bertology prune}: a model without some of its heads. */
@Command(name = "prune", description = "Removes attention heads of a model and saves it.")
final class PruneCommand implements Callable<Integer> {
  @Option(
      names = "--model_name_or_path",
      required = true,
      paramLabel = "PATH",
      description = "folder or file of the model")
  private Path model;

  /** One of the two. */
  static final class Which {
    @Option(
        names = "--heads",
        required = true,
        paramLabel = "HEADS",
        description =
            "heads to remove, counted from 0: \"0:1,3;2:5\" is 1 and 3 of layer 0 and 5"
                + " of layer 2")
    private Optional<String> heads = Optional.empty();

    @Option(
        names = "--mask",
        required = true,
        paramLabel = "FILE",
        description = "head_mask.npy: [layers, heads], 0 for heads to remove and 1 for the others")
    private Optional<Path> mask = Optional.empty();
  }

  @ArgGroup(multiplicity = "1")
  private Which which;

  @Option(
      names = "--output_dir",
      required = true,
      paramLabel = "FOLDER",
      description = "where the pruned model goes, as a Hugging Face folder")
  private Path output;

  @Option(
      names = "--full_shape",
      description = "keep the shapes, with zeros for the heads, so that anything loads it")
  private boolean fullShape;

  @Mixin private ModelArguments arguments;
  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter out = spec.commandLine().getOut();
    Optional<Heads> named = which.heads.map(this::parse);
    Outputs.checkModelFolder(output, model);
    try (Model loaded = Model.load(model, arguments.options())) {
      Heads heads = named.orElseGet(() -> fromMask(which.mask.orElseThrow(), loaded));
      long before = loaded.parameterCount();
      loaded.pruneHeads(heads);
      loaded.save(output, fullShape ? Model.SaveFormat.FULL_SHAPE : Model.SaveFormat.PRUNED);
      out.printf(
          Locale.ROOT,
          "pruned %s: %,d parameters, before %,d%s; saved in %s%n",
          heads.isEmpty() ? "no heads" : heads.size() + " heads (" + heads + ")",
          loaded.parameterCount(),
          before,
          fullShape ? ", the others saved as zeros" : "",
          output);
    }
    return 0;
  }

  private Heads parse(String text) {
    Usage.require(!text.isBlank(), spec, "--heads names no heads");
    try {
      return Heads.parse(text);
    } catch (BertologyException e) {
      throw new ParameterException(spec.commandLine(), "--heads: " + e.getMessage(), e);
    }
  }

  /** The heads with 0; those that are pruned already may have any value. */
  private static Heads fromMask(Path file, Model model) {
    float[][] values = Npy.read(file);
    int layers = model.config().numHiddenLayers();
    int heads = model.config().numAttentionHeads();
    BertologyException.check(
        values.length == layers && values[0].length == heads,
        "%s is for %d layers of %d heads, the model has %d of %d",
        file,
        values.length,
        values[0].length,
        layers,
        heads);
    for (Heads.Head head : model.prunedHeads().list()) {
      values[head.layer()][head.head()] = 1;
    }
    for (float[] layer : values) {
      for (float value : layer) {
        BertologyException.check(
            value == 0 || value == 1, "%s has the value %s, expected 0 or 1", file, value);
      }
    }
    return HeadMask.of(values).masked();
  }
}
