package org.bertology4j.checkpoint;

import java.util.Arrays;
import java.util.Optional;

/** Element types of safetensors files; their names are those in the files. */
public enum SafetensorsType {
  BOOL(8),
  F4(4),
  F6_E2M3(6),
  F6_E3M2(6),
  U8(8),
  I8(8),
  F8_E5M2(8),
  F8_E4M3(8),
  F8_E8M0(8),
  I16(16),
  U16(16),
  F16(16),
  BF16(16),
  I32(32),
  U32(32),
  F32(32),
  C64(64),
  F64(64),
  I64(64),
  U64(64);

  private final int bits;

  SafetensorsType(int bits) {
    this.bits = bits;
  }

  /** Bits of an element. */
  public int bits() {
    return bits;
  }

  /** The type of weights that this is, if it is one that weights may have. */
  public Optional<StoredType> storedType() {
    return switch (this) {
      case F32 -> Optional.of(StoredType.FLOAT32);
      case F16 -> Optional.of(StoredType.FLOAT16);
      case BF16 -> Optional.of(StoredType.BFLOAT16);
      default -> Optional.empty();
    };
  }

  /** How weights of a type are called in these files. */
  public static SafetensorsType of(StoredType type) {
    return switch (type) {
      case FLOAT32 -> F32;
      case FLOAT16 -> F16;
      case BFLOAT16 -> BF16;
    };
  }

  static Optional<SafetensorsType> parse(String name) {
    return Arrays.stream(values()).filter(type -> type.name().equals(name)).findFirst();
  }
}
