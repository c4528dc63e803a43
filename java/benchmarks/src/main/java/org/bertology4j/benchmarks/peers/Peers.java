package org.bertology4j.benchmarks.peers;

import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import org.bertology4j.BertologyException;

/** The other libraries, as far as they are there. */
public final class Peers {
  /** transformers, by a Python that has it. */
  public static final String TRANSFORMERS = "transformers";

  /** LibTorch, through JavaCPP. */
  public static final String LIBTORCH = "libtorch";

  /** ONNX Runtime for Java. */
  public static final String ONNX_RUNTIME = "onnxruntime";

  /** DJL's PyTorch engine. */
  public static final String DJL = "djl";

  private static final String WORKER_SCRIPT = "transformers_worker.py";

  private final String python;
  private final int threads;
  private final Path logs;

  /**
   * Peers that compute with so many threads.
   *
   * @param python the name or path of a Python
   * @param logs a folder for what they write to standard error
   */
  public Peers(String python, int threads, Path logs) {
    this.python = python;
    this.threads = threads;
    this.logs = logs;
  }

  /**
   * Starts a process of it.
   *
   * @throws BertologyException of kind UNSUPPORTED, with the reason, if it is not installed
   */
  public Worker start(String peer) {
    List<String> command = peer.equals(TRANSFORMERS) ? pythonCommand() : jvmCommand(peer);
    Worker worker = new Worker(peer, command, threads, logs.resolve("peer-" + peer + ".log"));
    try {
      worker.describe();
    } catch (BertologyException e) {
      worker.close();
      throw missing(peer, e.getMessage());
    }
    return worker;
  }

  private static BertologyException missing(String peer, String why) {
    return new BertologyException(
        BertologyException.Kind.UNSUPPORTED, peer + " is not installed: " + why);
  }

  private List<String> pythonCommand() {
    Path script =
        Optional.ofNullable(System.getProperty("bertology.benchmarks.python"))
            .map(folder -> Path.of(folder, WORKER_SCRIPT))
            .orElseThrow(
                () ->
                    missing(
                        TRANSFORMERS,
                        "its script is found by the launcher bin/bertology-benchmarks"));
    if (!isExecutable(python)) {
      throw missing(TRANSFORMERS, "there is no " + python + "; name one with --python");
    }
    return List.of(python, script.toString());
  }

  private static boolean isExecutable(String program) {
    if (program.contains(File.separator)) {
      return Files.isExecutable(Path.of(program));
    }
    return Arrays.stream(Objects.requireNonNullElse(System.getenv("PATH"), "").split(":"))
        .anyMatch(folder -> Files.isExecutable(Path.of(folder, program)));
  }

  private static List<String> jvmCommand(String peer) {
    if (JvmWorker.find(peer).isEmpty()) {
      throw missing(peer, "build java/benchmarks with -Ppeers");
    }
    return List.of(
        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        // JavaCPP's own limit counts what the libraries take; they have none here.
        "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0",
        "-Dorg.bytedeco.javacpp.maxBytes=0",
        "-cp",
        System.getProperty("java.class.path"),
        JvmWorker.class.getName(),
        peer);
  }
}
