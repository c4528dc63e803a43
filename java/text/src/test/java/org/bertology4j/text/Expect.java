package org.bertology4j.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;
import org.bertology4j.BertologyException;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.function.Executable;

/** What several tests share. */
final class Expect {
  private Expect() {}

  /** The call fails with this kind, and each part is in the message. */
  static void failure(Kind kind, Executable call, String... parts) {
    BertologyException e = assertThrows(BertologyException.class, call);
    assertEquals(kind, e.kind(), e.getMessage());
    for (String part : parts) {
      assertTrue(e.getMessage().contains(part), () -> "no \"" + part + "\" in: " + e.getMessage());
    }
  }

  /** The call fails as an invalid argument, and each part is in the message. */
  static void invalid(Executable call, String... parts) {
    failure(Kind.INVALID_ARGUMENT, call, parts);
  }

  /** Writes a file and gives its path. */
  static Path write(Path folder, String name, String text) {
    return write(folder, name, text.getBytes(StandardCharsets.UTF_8));
  }

  /** Writes a file and gives its path. */
  static Path write(Path folder, String name, byte[] bytes) {
    try {
      Path file = folder.resolve(name);
      Files.createDirectories(file.getParent());
      return Files.write(file, bytes);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The bytes of a test resource of this package. */
  static byte[] resource(String name) {
    try (InputStream in = Expect.class.getResourceAsStream(name)) {
      return Objects.requireNonNull(in, name).readAllBytes();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** A reader of a test resource of this package. */
  static Reader reader(String name) {
    return new InputStreamReader(
        Objects.requireNonNull(Expect.class.getResourceAsStream(name), name),
        StandardCharsets.UTF_8);
  }
}
