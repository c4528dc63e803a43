package org.bertology4j.cli;

import java.io.PrintWriter;
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
    try (Device device = Device.open(arguments.device(), arguments.threads())) {
      out.println(device.description());
    }
    try {
      Device.open("cuda:0").close();
    } catch (BertologyException e) {
      out.println("cuda: not available: " + e.getMessage());
    }
    return 0;
  }
}
