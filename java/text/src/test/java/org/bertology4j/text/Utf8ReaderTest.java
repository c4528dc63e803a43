package org.bertology4j.text;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class Utf8ReaderTest {
  private static String read(byte[] bytes, int atOnce) throws IOException {
    // A stream that gives few bytes at once, as a pipe may.
    InputStream slow =
        new ByteArrayInputStream(bytes) {
          @Override
          public synchronized int read(byte[] target, int offset, int length) {
            return super.read(target, offset, Math.min(length, atOnce));
          }
        };
    StringBuilder text = new StringBuilder();
    try (Reader reader = new Utf8Reader(slow, "file")) {
      for (int c = reader.read(); c >= 0; c = reader.read()) {
        text.append((char) c);
      }
    }
    return text.toString();
  }

  private static byte[] utf8(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  @Test
  void readsWhatTheDecoderOfTheJdkReads() throws IOException {
    String text = "aé中😀\u0000\r\n\u2028".repeat(9000);
    for (int atOnce : new int[] {1, 3, 1 << 20}) {
      assertEquals(text, read(utf8(text), atOnce));
    }
    assertEquals("", read(new byte[0], 1));
  }

  @Test
  void skipsAByteOrderMarkAtTheStartOnly() throws IOException {
    assertEquals("a\ufeffb", read(utf8("\ufeffa\ufeffb"), 2));
    assertEquals("", read(utf8("\ufeff"), 1));
  }

  @Test
  void saysWhereMalformedBytesAre() {
    Expect.invalid(() -> read(new byte[] {'a', (byte) 0xff}, 9), "file:1", "0xff", "offset 1");
    Expect.invalid(
        () -> read(new byte[] {'a', '\r', '\n', '\r', 'b', '\n', (byte) 0xc3, 'x'}, 1),
        "file:4",
        "0xc3",
        "offset 6");
    Expect.invalid(() -> read(new byte[] {(byte) 0xe4, (byte) 0xb8}, 1), "0xe4", "offset 0");
    // A surrogate, as some encoders write it, is not UTF-8.
    Expect.invalid(() -> read(new byte[] {(byte) 0xed, (byte) 0xa0, (byte) 0x80}, 9), "0xed");
    byte[] late = utf8("line\n".repeat(50_000) + "x");
    late[late.length - 1] = (byte) 0x80;
    Expect.invalid(() -> read(late, 1 << 20), "file:50001", "0x80", "offset 250000");
  }
}
