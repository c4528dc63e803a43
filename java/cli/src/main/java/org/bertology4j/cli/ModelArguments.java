package org.bertology4j.cli;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.bertology4j.BertologyException;
import org.bertology4j.DType;
import org.bertology4j.ModelOptions;
import org.bertology4j.ModelReplicas;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

/** Where and how models run: options that every command has. */
final class ModelArguments {
  @Spec(Spec.Target.MIXEE)
  private CommandSpec spec;

  @Option(
      names = "--device",
      defaultValue = "auto",
      paramLabel = "DEVICE",
      split = ",",
      description =
          "cpu; cuda:0, cuda:1 and so on; auto for the first CUDA device, or else the CPU (default:"
              + " ${DEFAULT-VALUE}); run divides the data among several: cuda:0,cuda:1")
  private List<String> devices;

  @Option(
      names = "--dtype",
      defaultValue = "float32",
      paramLabel = "TYPE",
      converter = DTypeConverter.class,
      description =
          "inputs of matrix products: float32, bfloat16, or float16 on CUDA devices (default:"
              + " ${DEFAULT-VALUE})")
  private DType dtype;

  private int threads;

  @Option(
      names = "--threads",
      defaultValue = "0",
      paramLabel = "N",
      description = "threads to compute with (default: as many as the process may use)")
  private void setThreads(int count) {
    Usage.require(count >= 0, spec, "--threads is %d, expected 0 or more", count);
    threads = count;
  }

  private static final class DTypeConverter implements ITypeConverter<DType> {
    @Override
    public DType convert(String name) {
      try {
        return DType.parse(name);
      } catch (BertologyException e) {
        throw new TypeConversionException(e.getMessage());
      }
    }
  }

  /** For commands that take one device. */
  ModelOptions options() {
    return onAnyDevice().device(device());
  }

  private ModelOptions onAnyDevice() {
    return ModelOptions.defaults().threads(threads).dtype(dtype);
  }

  /** The model on each of the devices. */
  ModelReplicas load(Path model) {
    return ModelReplicas.load(model, onAnyDevice(), devices);
  }

  /** Takes the CPU, whatever there is. */
  void withoutCuda() {
    devices = List.of("cpu");
  }

  /** The only device, for commands that take one. */
  String device() {
    Usage.require(
        devices.size() == 1,
        spec,
        "--device %s: %s takes one device",
        String.join(",", devices),
        spec.name());
    return devices.get(0);
  }

  List<String> devices() {
    return devices;
  }

  int threads() {
    return threads;
  }

  /** The folder of a model that comes along. */
  static Path folderOf(String model) {
    Path folder =
        home()
            .map(home -> home.resolve("models").resolve(model))
            .orElseThrow(
                () ->
                    BertologyException.invalid(
                        "the model that comes along is found by the launcher bin/bertology; start"
                            + " it, or name a model with --model_name_or_path"));
    BertologyException.check(
        Files.isDirectory(folder), "%s is missing from the distribution", folder);
    return folder;
  }

  /** The folder that the launcher is in; empty if the command was started otherwise. */
  static Optional<Path> home() {
    return Optional.ofNullable(System.getProperty("bertology.home")).map(Path::of);
  }
}
