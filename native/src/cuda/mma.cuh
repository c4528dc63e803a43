// Products of 16 x 16 by 16 x 8 on tensor cores (mma.sync), of inputs that are float32 in memory,
// with float32 sums.
//
// Lane 4 g + t of a warp holds four elements along k of row g and of row g + 8 of the left matrix,
// and the same four of column g of the right one. Which four they are is the caller's choice, as
// long as it is the same choice on both sides and the four lanes of a quad share the sixteen. Of
// the result it holds columns 2 t and 2 t + 1 of rows g (elements 0 and 1) and g + 8 (2 and 3).
#pragma once

#include <cstdint>

namespace bertology::cuda {

/// Inputs of half precision: one m16n8k16 a product. Pack: two floats -> a register, Multiply: the
/// instruction.
template <class Half>
struct HalfProduct {
  struct Left {
    uint32_t r[4];
  };
  struct Right {
    uint32_t r[2];
  };
  using KeptLeft = Left;

  static __device__ __forceinline__ KeptLeft keep(const float4& upper, const float4& lower) {
    return {{Half::pack(upper.x, upper.y), Half::pack(lower.x, lower.y),
             Half::pack(upper.z, upper.w), Half::pack(lower.z, lower.w)}};
  }
  static __device__ __forceinline__ Left left(const KeptLeft& kept) { return kept; }
  static __device__ __forceinline__ Right right(const float4& v) {
    return {{Half::pack(v.x, v.y), Half::pack(v.z, v.w)}};
  }
  static __device__ __forceinline__ void multiply(float (&sum)[4], const Left& a, const Right& b) {
    Half::multiply(sum, a.r, b.r);
  }
};

struct BFloat16 {
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
  }
  static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

struct Float16 {
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
  }
  static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

/// Inputs of single precision: each is the sum of a TF32 number and a remainder that fits another.
/// Of the four products the one of the remainders is below the rounding of the sum, so three times
/// two m16n8k8 do.
struct FloatProduct {
  struct KeptLeft {
    float upper[4], lower[4];
  };
  struct Left {
    uint32_t big[2][4], small[2][4];
  };
  struct Right {
    uint32_t big[2][2], small[2][2];
  };

  static __device__ __forceinline__ KeptLeft keep(const float4& upper, const float4& lower) {
    return {{upper.x, upper.y, upper.z, upper.w}, {lower.x, lower.y, lower.z, lower.w}};
  }
  static __device__ __forceinline__ Left left(const KeptLeft& kept) {
    Left split;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        divide(kept.upper[2 * half + i], &split.big[half][2 * i], &split.small[half][2 * i]);
        divide(kept.lower[2 * half + i], &split.big[half][2 * i + 1],
               &split.small[half][2 * i + 1]);
      }
    }
    return split;
  }
  static __device__ __forceinline__ Right right(const float4& v) {
    Right split;
    divide(v.x, &split.big[0][0], &split.small[0][0]);
    divide(v.y, &split.big[0][1], &split.small[0][1]);
    divide(v.z, &split.big[1][0], &split.small[1][0]);
    divide(v.w, &split.big[1][1], &split.small[1][1]);
    return split;
  }
  /// For sums of few products: tensor cores round them toward zero, so that long ones drift.
  static __device__ __forceinline__ void multiply(float (&sum)[4], const Left& a, const Right& b) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      instruction(sum, a.small[half], b.big[half]);
      instruction(sum, a.big[half], b.small[half]);
      instruction(sum, a.big[half], b.big[half]);
    }
  }
  /// For sums of many: the tensor core's own starts from 0.
  static __device__ __forceinline__ void add(float (&sum)[4], const Left& a, const Right& b) {
    float own[4] = {};
    multiply(own, a, b);
#pragma unroll
    for (int e = 0; e < 4; ++e) sum[e] += own[e];
  }

 private:
  static __device__ __forceinline__ uint32_t to_tf32(float x) {
    uint32_t rounded;
    // volatile: where it is used, not kept in registers over a loop
    asm volatile("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
  }
  static __device__ __forceinline__ void divide(float x, uint32_t* big, uint32_t* small) {
    *big = to_tf32(x);
    *small = to_tf32(x - __uint_as_float(*big));
  }
  static __device__ __forceinline__ void instruction(float (&c)[4], const uint32_t (&a)[4],
                                                     const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

using BFloat16Product = HalfProduct<BFloat16>;
using Float16Product = HalfProduct<Float16>;

}  // namespace bertology::cuda
