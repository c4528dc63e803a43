package org.bertology4j.benchmarks.peers;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.ServiceLoader;
import java.util.ServiceLoader.Provider;
import org.bertology4j.BertologyException;

/**
 * A process for one {@link Peer}: libraries that bring their own copies of the same native code
 * cannot share one. Reads commands as lines of JSON; answers are lines that start with "@" and go
 * on with JSON.
 */
public final class JvmWorker {
  private static final Gson GSON = new Gson();

  private final Peer peer;
  private Optional<Peer.Prepared> prepared = Optional.empty();

  private JvmWorker(Peer peer) {
    this.peer = peer;
  }

  /** The peer of this name, if it was built in. */
  static Optional<Peer> find(String name) {
    return ServiceLoader.load(Peer.class).stream()
        .map(Provider::get)
        .filter(peer -> peer.name().equals(name))
        .findFirst();
  }

  /** Serves the peer whose name is the argument. */
  public static void main(String[] arguments) throws IOException {
    // What libraries print must not stand between the answers.
    PrintStream answers =
        new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
    System.setOut(System.err);
    JvmWorker worker = new JvmWorker(find(arguments[0]).orElseThrow());
    BufferedReader commands =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    String line;
    while ((line = commands.readLine()) != null) {
      answers.println("@" + worker.answer(line));
    }
    // Without waiting for threads that libraries leave behind.
    System.exit(0);
  }

  private JsonObject answer(String line) {
    JsonObject answer = new JsonObject();
    try {
      JsonObject command = GSON.fromJson(line, JsonObject.class);
      switch (command.get("command").getAsString()) {
        case "describe" -> answer.addProperty("description", peer.description());
        case "prepare" -> prepare(GSON.fromJson(command.get("task"), PeerTask.class));
        case "run" -> {
          long start = System.nanoTime();
          prepared.orElseThrow().run();
          answer.addProperty("seconds", (System.nanoTime() - start) * 1e-9);
        }
        default -> throw new IllegalArgumentException("unknown command: " + line);
      }
    } catch (Throwable e) { // any failure is an answer
      e.printStackTrace();
      answer.addProperty("error", e instanceof BertologyException ? e.getMessage() : e.toString());
    }
    return answer;
  }

  private void prepare(PeerTask task) throws IOException {
    Peer.Prepared ready = peer.prepare(task);
    float[] outputs = ready.outputs();
    ByteBuffer bytes =
        ByteBuffer.allocate(outputs.length * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(outputs);
    Files.write(Path.of(task.file(PeerTask.OUTPUTS)), bytes.array());
    prepared = Optional.of(ready);
  }
}
