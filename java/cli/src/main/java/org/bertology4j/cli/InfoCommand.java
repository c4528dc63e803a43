package org.bertology4j.cli;

import java.io.PrintWriter;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.Callable;
import org.bertology4j.BertologyException;
import org.bertology4j.Device;
import org.bertology4j.internal.Native;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Spec;

/** {@code bertology info}: what this machine offers. */
@Command(name = "info", description = "Devices, instruction set, versions.")
final class InfoCommand implements Callable<Integer> {
  @Mixin private ModelArguments arguments;
  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter out = spec.commandLine().getOut();
    out.println("bertology4j " + Native.version());
    out.println(
        "java: " + System.getProperty("java.vm.name") + " " + System.getProperty("java.version"));
    out.println("system: " + System.getProperty("os.name") + " " + System.getProperty("os.arch"));
    Set<String> shown = new HashSet<>();
    for (String name : arguments.devices()) {
      try (Device device = Device.open(name, arguments.threads())) {
        out.println(device.description());
        shown.add(device.name());
      }
    }
    Device.whyNoCuda().ifPresent(why -> out.println("cuda: not available: " + why));
    for (int i = 0; i < Device.cudaCount(); i++) {
      if (!shown.contains("cuda:" + i)) {
        out.println(describe("cuda:" + i));
      }
    }
    return 0;
  }

  private static String describe(String name) {
    try (Device device = Device.open(name)) {
      return device.description();
    } catch (BertologyException e) {
      return "device: " + name + ": not available: " + e.getMessage();
    }
  }
}
