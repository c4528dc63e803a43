package org.bertology4j.cli;

import java.util.stream.Collectors;
import org.bertology4j.ModelReplicas;

/** What is said of the devices that models are on. */
final class Devices {
  private Devices() {}

  /** Their descriptions, a line each; a device that several models are on is described once. */
  static String description(ModelReplicas models) {
    return models.models().stream()
        .map(model -> model.device().description())
        .distinct()
        .collect(Collectors.joining("\n"));
  }
}
