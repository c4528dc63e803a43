package org.bertology4j.cli;

import java.nio.file.Path;
import java.util.Optional;
import org.bertology4j.DType;
import org.bertology4j.ModelOptions;
import picocli.CommandLine.Option;

/** Where and how models run: options that every command has. */
final class ModelArguments {
  @Option(
      names = "--device",
      defaultValue = "auto",
      description = "cpu, or auto for the best there is (default: ${DEFAULT-VALUE})")
  private String device;

  @Option(
      names = "--dtype",
      defaultValue = "float32",
      description = "inputs of matrix products: float32 or bfloat16 (default: ${DEFAULT-VALUE})")
  private String dtype;

  @Option(
      names = "--threads",
      defaultValue = "0",
      description = "threads to compute with; 0: as many as the process may use (default)")
  private int threads;

  ModelOptions options() {
    return ModelOptions.defaults().device(device).threads(threads).dtype(dtype());
  }

  /** Takes the CPU, whatever there is. */
  void withoutCuda() {
    device = "cpu";
  }

  DType dtype() {
    return DType.parse(dtype);
  }

  String device() {
    return device;
  }

  int threads() {
    return threads;
  }

  /** The folder that the launcher is in; empty if the command was started otherwise. */
  static Optional<Path> home() {
    return Optional.ofNullable(System.getProperty("bertology.home")).map(Path::of);
  }
}
