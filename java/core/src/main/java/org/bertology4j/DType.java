package org.bertology4j;

import java.util.Locale;

/**
 * What matrix products take as inputs. Everything else, sums and gradients included, is float32.
 */
public enum DType {
  /** Exact to single precision; the default. */
  FLOAT32,
  /**
   * Half the memory of the matrices and up to twice the speed, on processors with instructions for
   * it and on CUDA devices.
   */
  BFLOAT16,
  /** As fast as bfloat16 with eight times its precision, up to 65504; on CUDA devices only. */
  FLOAT16;

  /** Reads "float32", "fp32", "bfloat16", "bf16", "float16" or "fp16". */
  public static DType parse(String name) {
    return switch (name.strip().toLowerCase(Locale.ROOT)) {
      case "float32", "fp32", "f32" -> FLOAT32;
      case "bfloat16", "bf16" -> BFLOAT16;
      case "float16", "fp16", "f16" -> FLOAT16;
      default ->
          throw BertologyException.invalid(
              "dtype \"%s\": expected float32, bfloat16 or float16", name);
    };
  }

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
