package org.bertology4j.checkpoint;

import static org.bertology4j.checkpoint.Golden.assertInvalid;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ProtoReaderTest {
  private static ProtoReader reader(byte[] bytes) {
    return new ProtoReader(
        ByteSource.of(bytes), new ProtoReader.Range(0, bytes.length), "the message");
  }

  @Test
  void readsFieldsAndSkipsTheRest() {
    byte[] bytes =
        new ProtoBytes()
            .number(1, -1)
            .text(2, "skipped")
            .fixed32(3, 0xdeadbeef)
            .fixed32(4, 1)
            .tag(5, 1)
            .varint(0x0102030405060708L & 0x7f)
            .toBytes();
    byte[] padded = Arrays.copyOf(bytes, bytes.length + 7); // the rest of eight fixed bytes
    ProtoReader message = reader(padded);
    assertTrue(message.next());
    assertEquals(-1, message.readLong());
    assertTrue(message.next());
    assertTrue(message.isBytes());
    assertTrue(message.next());
    assertEquals(0xdeadbeef, message.readFixed32());
    assertTrue(message.next());
    assertTrue(message.next());
    assertEquals(5, message.field());
    assertFalse(message.next());
    assertFalse(message.next());
  }

  @Test
  void readsRepeatedNumbersPackedOrNot() {
    byte[] packed = new ProtoBytes().varint(1).varint(300).varint(-5).toBytes();
    ProtoReader message = reader(new ProtoBytes().number(1, 7).bytes(1, packed).toBytes());
    List<Long> numbers = new ArrayList<>();
    while (message.next()) {
      message.readLongs(numbers::add);
    }
    assertEquals(List.of(7L, 1L, 300L, -5L), numbers);
  }

  @Test
  void readsMessagesInside() {
    ProtoReader message =
        reader(new ProtoBytes().message(1, new ProtoBytes().text(2, "é")).number(3, 4).toBytes());
    assertTrue(message.next());
    ProtoReader inner = message.readMessage();
    assertTrue(inner.next());
    assertEquals("é", inner.readString(2));
    assertFalse(inner.next());
    assertTrue(message.next());
    assertEquals(4, message.readInt());
  }

  @Test
  void readsFilesThroughAWindow(@TempDir Path folder) throws IOException {
    String text = "abc".repeat(20_000); // two of them are more than a window
    byte[] bytes =
        new ProtoBytes()
            .text(1, text)
            .number(2, 1L << 60)
            .bytes(3, new byte[200_000])
            .text(4, text)
            .text(4, text)
            .number(5, 6)
            .toBytes();
    try (DataFile file = DataFile.open(Files.write(folder.resolve("x"), bytes))) {
      ProtoReader message =
          new ProtoReader(
              ByteSource.of(file), new ProtoReader.Range(0, file.size()), "the message");
      assertTrue(message.next());
      assertEquals(text, message.readString(text.length()));
      assertTrue(message.next());
      assertEquals(1L << 60, message.readLong());
      assertTrue(message.next());
      for (int i = 0; i < 2; i++) {
        assertTrue(message.next());
        assertEquals(text, message.readString(text.length()));
      }
      assertTrue(message.next());
      assertEquals(6, message.readLong());
      assertFalse(message.next());
    }
  }

  @Test
  void trustsNoLength() {
    byte[] bytes = new ProtoBytes().text(1, "12345").toBytes();
    for (int length = 1; length < bytes.length; length++) {
      ProtoReader message = reader(Arrays.copyOf(bytes, length));
      assertInvalid(
          () -> {
            message.next();
            message.next();
          },
          "the message",
          "truncated");
    }
    long[] lengths = {6, Integer.MAX_VALUE, Long.MAX_VALUE, -1, Long.MIN_VALUE};
    for (long length : lengths) {
      ProtoReader message = reader(new ProtoBytes().tag(1, 2).varint(length).toBytes());
      message.next();
      assertInvalid(message::readRange, "length of " + Long.toUnsignedString(length));
    }
  }

  @Test
  void reportsWhatCannotBe() {
    assertInvalid(() -> reader(new ProtoBytes().tag(0, 0).toBytes()).next(), "field number");
    assertInvalid(() -> reader(new ProtoBytes().varint(-1).toBytes()).next(), "field number");
    for (int wire : new int[] {3, 4, 6, 7}) {
      ProtoReader message = reader(new ProtoBytes().tag(1, wire).toBytes());
      message.next();
      assertInvalid(message::next, "wire type " + wire);
    }
    ProtoReader number = reader(new ProtoBytes().number(1, 1L << 40).toBytes());
    number.next();
    assertInvalid(number::readInt, "1099511627776");
    ProtoReader text = reader(new ProtoBytes().text(1, "abc").toBytes());
    text.next();
    assertInvalid(() -> text.readString(2), "3 bytes");
    ProtoReader other = reader(new ProtoBytes().text(1, "abc").toBytes());
    other.next();
    assertInvalid(other::readLong, "wire type 2, expected 0");
    byte[] endless = new byte[12];
    Arrays.fill(endless, (byte) 0xff);
    assertInvalid(() -> reader(endless).next(), "more than ten bytes");
  }
}
