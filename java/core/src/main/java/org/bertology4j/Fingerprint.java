package org.bertology4j;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;

/** SHA-256 over values of several types, each with its length, so that no two run together. */
final class Fingerprint {
  private final MessageDigest digest;

  Fingerprint() {
    try {
      digest = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
  }

  Fingerprint add(ByteBuffer bytes) {
    digest.update(ByteBuffer.allocate(Long.BYTES).putLong(bytes.remaining()).flip());
    digest.update(bytes);
    return this;
  }

  Fingerprint add(String text) {
    return add(ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8)));
  }

  Fingerprint add(int[] values) {
    ByteBuffer bytes = ByteBuffer.allocate(Math.multiplyExact(values.length, Integer.BYTES));
    bytes.asIntBuffer().put(values);
    return add(bytes);
  }

  Fingerprint add(long[] values) {
    ByteBuffer bytes = ByteBuffer.allocate(Math.multiplyExact(values.length, Long.BYTES));
    bytes.asLongBuffer().put(values);
    return add(bytes);
  }

  Fingerprint add(float[] values) {
    ByteBuffer bytes = ByteBuffer.allocate(Math.multiplyExact(values.length, Float.BYTES));
    bytes.asFloatBuffer().put(values);
    return add(bytes);
  }

  Fingerprint add(Batch batch) {
    return add(batch.offsetsArray())
        .add(batch.inputIdsArray())
        .add(batch.tokenTypeIdsArray())
        .add(batch.loss().name())
        .add(batch.labelsArray())
        .add(batch.targetsArray());
  }

  static String of(List<HeadMask> masks) {
    HeadMask first = masks.get(0);
    return new Fingerprint()
        .add(new int[] {masks.size(), first.layers(), first.heads()})
        .add(HeadMask.packed(masks))
        .hex();
  }

  String hex() {
    return HexFormat.of().formatHex(digest.digest());
  }
}
