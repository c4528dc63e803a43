package org.bertology4j;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonSyntaxException;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import org.bertology4j.checkpoint.AtomicFiles;

/**
 * The file of a sweep that can be resumed: JSON, an object a line. The first says what is swept:
 *
 * <pre>{"format": "bertology4j mask sweep 1", "sweep": "...", "fingerprint": "..."}</pre>
 *
 * and each of the others what a batch gave, for each mask of a list the numbers that its scorer
 * took:
 *
 * <pre>{"masks": "fingerprint of the list", "batch": 0, "values": [[...], [...]]}</pre>
 *
 * Lines are appended, and on the disk before more is computed. One that was not finished, because
 * the machine or the process ended, is cut off.
 */
final class SweepFile {
  private static final String FORMAT = "bertology4j mask sweep 1";
  private static final Gson GSON =
      new GsonBuilder().serializeSpecialFloatingPointValues().disableHtmlEscaping().create();

  private final Path path;
  private final Map<Key, double[][]> finished = new HashMap<>();

  private record Key(String masks, int batch) {}

  private record Header(String format, String sweep, String fingerprint) {}

  private record Line(String masks, int batch, double[][] values) {}

  /**
   * The file, which is made if it is not there.
   *
   * @param sweep what is swept, for messages; the fingerprint covers it
   * @throws BertologyException INVALID_ARGUMENT if the file is of another sweep, or none; IO if it
   *     cannot be read or written
   */
  SweepFile(Path path, String sweep, String fingerprint) {
    this.path = path;
    if (!Files.exists(path)) {
      AtomicFiles.writeString(path, GSON.toJson(new Header(FORMAT, sweep, fingerprint)) + "\n");
      return;
    }
    byte[] bytes = read();
    int end = 0;
    int number = 0;
    for (int i = 0; i < bytes.length; i++) {
      if (bytes[i] != '\n') {
        continue;
      }
      String line = new String(bytes, end, i - end, StandardCharsets.UTF_8);
      number++;
      if (number == 1) {
        check(parse(line, Header.class, number), sweep, fingerprint);
      } else {
        Line part = parse(line, Line.class, number);
        BertologyException.check(
            part.masks() != null && part.values() != null,
            "%s: line %d lacks \"masks\" or \"values\"",
            path,
            number);
        finished.put(new Key(part.masks(), part.batch()), part.values());
      }
      end = i + 1;
    }
    BertologyException.check(number > 0, "%s is no file of a mask sweep: it has no line", path);
    if (end < bytes.length) {
      cutOff(end);
    }
  }

  private byte[] read() {
    try {
      return Files.readAllBytes(path);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be read: %s", path, e);
    }
  }

  private <T> T parse(String line, Class<T> type, int number) {
    T value;
    try {
      value = GSON.fromJson(line, type);
    } catch (JsonSyntaxException e) {
      throw new BertologyException(
          BertologyException.Kind.INVALID_ARGUMENT,
          String.format("%s: line %d is not what a mask sweep writes: %s", path, number, e),
          e);
    }
    BertologyException.check(value != null, "%s: line %d is empty", path, number);
    return value;
  }

  private void check(Header header, String sweep, String fingerprint) {
    BertologyException.check(
        FORMAT.equals(header.format()),
        "%s is no file of a mask sweep: its format is %s, expected %s",
        path,
        header.format(),
        FORMAT);
    BertologyException.check(
        fingerprint.equals(header.fingerprint()),
        "%s is of another sweep, of another model, other data or other options: %s; this one is %s;"
            + " delete the file or name another",
        path,
        header.sweep(),
        sweep);
  }

  private void cutOff(long size) {
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
      channel.truncate(size);
      channel.force(true);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: the unfinished line cannot be cut off: %s", path, e);
    }
  }

  /** What a batch gave for these masks, if it was finished; not to be changed. */
  Optional<double[][]> get(String masks, int batch) {
    return Optional.ofNullable(finished.get(new Key(masks, batch)));
  }

  /** Adds what a batch gave. */
  void add(String masks, int batch, double[][] values) {
    byte[] line =
        (GSON.toJson(new Line(masks, batch, values)) + "\n").getBytes(StandardCharsets.UTF_8);
    long size = path.toFile().length();
    // An interrupt would close a channel with half a line written; it cannot do that to a stream.
    try (FileOutputStream end = new FileOutputStream(path.toFile(), true)) {
      end.write(line);
      end.getFD().sync();
    } catch (IOException e) {
      BertologyException failure = BertologyException.io(e, "%s: cannot be written: %s", path, e);
      try {
        cutOff(size);
      } catch (BertologyException left) {
        failure.addSuppressed(left);
      }
      throw failure;
    }
    finished.put(new Key(masks, batch), values);
  }
}
