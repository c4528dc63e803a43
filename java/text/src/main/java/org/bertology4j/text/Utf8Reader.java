package org.bertology4j.text;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.Reader;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import org.bertology4j.BertologyException;

/**
 * Decodes UTF-8 strictly: malformed bytes are an error that says in which line and at which byte of
 * the file they are. A byte order mark at the start is skipped.
 */
final class Utf8Reader extends Reader {
  private static final char BYTE_ORDER_MARK = '\ufeff';

  private final InputStream in;
  private final String where;
  private final CharsetDecoder decoder =
      StandardCharsets.UTF_8
          .newDecoder()
          .onMalformedInput(CodingErrorAction.REPORT)
          .onUnmappableCharacter(CodingErrorAction.REPORT);
  private final ByteBuffer bytes = ByteBuffer.allocate(1 << 16).flip();
  private final CharBuffer chars = CharBuffer.allocate(1 << 14).flip();
  private boolean ended;
  private boolean started;
  private long bufferStart;
  private long line = 1;
  private char last;

  /**
   * @param where what to call the file in messages
   */
  Utf8Reader(InputStream in, String where) {
    this.in = in;
    this.where = where;
  }

  /** The lines of a text; their ends are LF, CR LF or CR. */
  static BufferedReader lines(InputStream in, String where) {
    return new BufferedReader(new Utf8Reader(in, where));
  }

  /** A file, with a message of its own if it cannot be read. */
  static InputStream open(Path file) {
    try {
      BertologyException.check(!Files.isDirectory(file), "%s is a folder, expected a file", file);
      return Files.newInputStream(file);
    } catch (NoSuchFileException e) {
      throw BertologyException.io(e, "%s does not exist", file);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s cannot be read: %s", file, e);
    }
  }

  /** The whole text of a file. */
  static String readAll(Path file) {
    StringBuilder text = new StringBuilder();
    try (Reader reader = new Utf8Reader(open(file), file.toString())) {
      char[] part = new char[1 << 14];
      for (int count = reader.read(part); count >= 0; count = reader.read(part)) {
        text.append(part, 0, count);
      }
    } catch (IOException e) {
      throw BertologyException.io(e, "%s cannot be read: %s", file, e);
    }
    return text.toString();
  }

  @Override
  public int read(char[] target, int offset, int length) throws IOException {
    while (!chars.hasRemaining()) {
      if (!decode()) {
        return -1;
      }
    }
    int count = Math.min(length, chars.remaining());
    chars.get(target, offset, count);
    return count;
  }

  /** Decodes what is there; false at the end of the file. */
  private boolean decode() throws IOException {
    chars.clear();
    CoderResult result = decoder.decode(bytes, chars, ended);
    chars.flip();
    countLines();
    if (result.isError()) {
      throw BertologyException.invalid(
          "%s:%d: not UTF-8: the byte 0x%02x at offset %d does not belong there",
          where, line, bytes.get(bytes.position()), bufferStart + bytes.position());
    }
    if (!started && chars.hasRemaining()) {
      started = true;
      if (chars.get(0) == BYTE_ORDER_MARK) {
        chars.get();
      }
    }
    if (result.isOverflow()) {
      return true;
    }
    if (ended) {
      return chars.hasRemaining();
    }
    fill();
    return true;
  }

  private void fill() throws IOException {
    bufferStart += bytes.position();
    bytes.compact();
    int count = in.read(bytes.array(), bytes.position(), bytes.remaining());
    if (count < 0) {
      ended = true;
    } else {
      bytes.position(bytes.position() + count);
    }
    bytes.flip();
  }

  private void countLines() {
    for (int i = 0; i < chars.limit(); i++) {
      char c = chars.get(i);
      if (c == '\r' || (c == '\n' && last != '\r')) {
        line++;
      }
      last = c;
    }
  }

  @Override
  public void close() throws IOException {
    in.close();
  }
}
