package org.bertology4j.benchmarks.peers;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.bertology4j.BertologyException;

/** A process that runs a peer. */
public final class Worker implements AutoCloseable {
  private static final Gson GSON = new Gson();
  private static final int SECONDS_TO_END = 10;

  private final String name;
  private final Path log;
  private final Process process;
  private final BufferedWriter commands;
  private final BufferedReader answers;

  /**
   * Starts a process.
   *
   * @param log gets what it writes to standard error
   */
  public Worker(String name, List<String> command, int threads, Path log) {
    this.name = name;
    this.log = log;
    ProcessBuilder builder = new ProcessBuilder(command).redirectError(log.toFile());
    String count = String.valueOf(threads);
    // Pools that are made when a library is loaded look here.
    builder.environment().put("OMP_NUM_THREADS", count);
    builder.environment().put("MKL_NUM_THREADS", count);
    builder.environment().put("OPENBLAS_NUM_THREADS", count);
    // Nothing is fetched while others are measured.
    builder.environment().putAll(Map.of("HF_HUB_OFFLINE", "1", "DJL_OFFLINE", "true"));
    try {
      process = builder.start();
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: %s cannot be started: %s", name, command.get(0), e);
    }
    commands = process.outputWriter(StandardCharsets.UTF_8);
    answers = process.inputReader(StandardCharsets.UTF_8);
  }

  /** The library's name and version. */
  public String describe() {
    return ask(command("describe")).get("description").getAsString();
  }

  /** Gets it ready for a task; it runs it once and writes {@link PeerTask#OUTPUTS}. */
  public void prepare(PeerTask task) {
    JsonObject command = command("prepare");
    command.add("task", GSON.toJsonTree(task));
    ask(command);
  }

  /** Does the task; the seconds that it took. */
  public double run() {
    return ask(command("run")).get("seconds").getAsDouble();
  }

  private static JsonObject command(String name) {
    JsonObject command = new JsonObject();
    command.addProperty("command", name);
    return command;
  }

  private JsonObject ask(JsonObject command) {
    JsonObject answer;
    try {
      commands.write(GSON.toJson(command));
      commands.newLine();
      commands.flush();
      String line;
      do {
        line = answers.readLine();
        if (line == null) {
          throw failed("it ended without an answer; see " + log);
        }
      } while (!line.startsWith("@"));
      answer = GSON.fromJson(line.substring(1), JsonObject.class);
    } catch (IOException | JsonParseException e) {
      throw BertologyException.io(e, "%s: it ended without an answer; see %s", name, log);
    }
    if (answer.has("error")) {
      throw failed(answer.get("error").getAsString());
    }
    return answer;
  }

  private BertologyException failed(String why) {
    return new BertologyException(
        BertologyException.Kind.UNSUPPORTED, name + ": " + why.replaceAll("\\s*\\R\\s*", " "));
  }

  @Override
  public void close() {
    try {
      commands.close(); // the end of its input ends it
    } catch (IOException e) {
      // It has ended already.
    }
    try {
      if (!process.waitFor(SECONDS_TO_END, TimeUnit.SECONDS)) {
        process.destroyForcibly();
      }
    } catch (InterruptedException e) {
      process.destroyForcibly();
      Thread.currentThread().interrupt();
    }
  }
}
