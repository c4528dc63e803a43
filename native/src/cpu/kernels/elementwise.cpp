// Activations, losses and conversions, by element or by row.
#include "cpu/kernels/math.h"
#include "cpu/kernels/table.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

constexpr float kInverseSqrtTwoPi = 0.39894228f;
// Of the tanh approximation: GELU(x) = x / 2 (1 + tanh(kSqrtTwoOverPi (x + kCubic x^3)))
constexpr float kSqrtTwoOverPi = 0.79788456f;
constexpr float kCubic = 0.044715f;

struct Gelu {
  static Vec value(Vec x) { return x * normal_distribution(x).cumulative; }
  static Vec slope(Vec x) {
    const Normal normal = normal_distribution(x);
    return normal.cumulative + x * (normal.peak_ratio * kInverseSqrtTwoPi);
  }
};

struct GeluNew {
  static Vec inner(Vec x) { return kSqrtTwoOverPi * (x + kCubic * x * x * x); }
  static Vec value(Vec x) { return 0.5f * x * (1.0f + hyperbolic_tangent(inner(x))); }
  static Vec slope(Vec x) {
    const Vec t = hyperbolic_tangent(inner(x));
    return 0.5f * (1.0f + t) +
           0.5f * x * (1.0f - t * t) * kSqrtTwoOverPi * (1.0f + 3.0f * kCubic * x * x);
  }
};

struct Relu {
  static Vec value(Vec x) { return x > 0.0f ? x : Vec{}; }
  static Vec slope(Vec x) { return x > 0.0f ? splat(1.0f) : Vec{}; }
};

struct Tanh {
  static Vec value(Vec x) { return hyperbolic_tangent(x); }
  static Vec slope(Vec x) {
    const Vec t = hyperbolic_tangent(x);
    return 1.0f - t * t;
  }
};

struct Silu {
  static Vec value(Vec x) { return x / (1.0f + exponential(-x)); }
  static Vec slope(Vec x) {
    const Vec s = 1.0f / (1.0f + exponential(-x));
    return s * (1.0f + x * (1.0f - s));
  }
};

template <class Function>
void apply(const float* input, float* output, int64_t count) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(output + i, Function::value(load(input + i)));
  if (i < count)
    store_some(output + i, Function::value(load_some(input + i, count - i)), count - i);
}

template <class Function>
void apply_slope(const float* preactivation, float* gradient, int64_t count) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    store(gradient + i, load(gradient + i) * Function::slope(load(preactivation + i)));
  }
  if (i < count) {
    const Vec slope = Function::slope(load_some(preactivation + i, count - i));
    store_some(gradient + i, load_some(gradient + i, count - i) * slope, count - i);
  }
}

}  // namespace

void activate(Activation activation, const float* input, float* output, int64_t count) {
  switch (activation) {
    case Activation::kNone:
      if (input != output) __builtin_memcpy(output, input, (size_t)count * sizeof(float));
      return;
    case Activation::kGelu:
      return apply<Gelu>(input, output, count);
    case Activation::kGeluNew:
      return apply<GeluNew>(input, output, count);
    case Activation::kRelu:
      return apply<Relu>(input, output, count);
    case Activation::kTanh:
      return apply<Tanh>(input, output, count);
    case Activation::kSilu:
      return apply<Silu>(input, output, count);
  }
}

void activation_backward(Activation activation, const float* preactivation, float* gradient,
                         int64_t count) {
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kGelu:
      return apply_slope<Gelu>(preactivation, gradient, count);
    case Activation::kGeluNew:
      return apply_slope<GeluNew>(preactivation, gradient, count);
    case Activation::kRelu:
      return apply_slope<Relu>(preactivation, gradient, count);
    case Activation::kTanh:
      return apply_slope<Tanh>(preactivation, gradient, count);
    case Activation::kSilu:
      return apply_slope<Silu>(preactivation, gradient, count);
  }
}

void cross_entropy(const CrossEntropy& op, int64_t begin, int64_t end) {
  const int64_t whole = op.classes / kWidth * kWidth;
  const int64_t rest = op.classes - whole;
  constexpr float kLowest = -3.4028235e38f;
  // The vocabulary is long: so many vectors are summed in float, the sums of these in double.
  constexpr int64_t kRun = 64 * kWidth;
  for (int64_t r = begin; r < end; ++r) {
    const float* logits = op.logits + r * op.classes;
    float* d_logits = op.d_logits == nullptr ? nullptr : op.d_logits + r * op.classes;
    const bool counts = op.labels != nullptr && op.labels[r] >= 0;
    float peak = 0;
    if (counts || op.predictions != nullptr) {
      Vec most = load_some(logits + whole, rest, kLowest);
      for (int64_t c = 0; c < whole; c += kWidth) most = maximum(most, load(logits + c));
      peak = maximum(most);
    }
    if (op.predictions != nullptr) {
      int64_t c = 0;
      while (c < op.classes - 1 && logits[c] != peak) ++c;
      op.predictions[r] = (float)c;
    }
    if (!counts) {
      if (op.losses != nullptr) op.losses[r] = 0;
      for (int64_t c = 0; d_logits != nullptr && c < op.classes; ++c) d_logits[c] = 0;
      continue;
    }
    const float label_logit = logits[op.labels[r]];
    double total = 0;
    for (int64_t first = 0; first < whole; first += kRun) {
      const int64_t last = first + kRun < whole ? first + kRun : whole;
      Vec run = Vec{};
      for (int64_t c = first; c < last; c += kWidth) {
        const Vec e = bounded_exponential(load(logits + c) - peak);
        if (d_logits != nullptr) store(d_logits + c, e);
        run += e;
      }
      total += sum(run);
    }
    if (rest > 0) {
      const Vec e = bounded_exponential(load_some(logits + whole, rest, kLowest) - peak);
      total += sum(e);
      if (d_logits != nullptr) store_some(d_logits + whole, e, rest);
    }
    op.losses[r] = (float)__builtin_log(total) - (label_logit - peak);
    if (d_logits == nullptr) continue;
    const float weight = op.weights == nullptr ? 1.0f : op.weights[r];
    const float scale = weight / (float)total;
    for (int64_t c = 0; c < whole; c += kWidth) store(d_logits + c, load(d_logits + c) * scale);
    for (int64_t c = whole; c < op.classes; ++c) d_logits[c] *= scale;
    d_logits[op.labels[r]] -= weight;
  }
}

void add_scaled(const float* input, float scale, float* output, int64_t count) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth)
    store(output + i, load(output + i) + load(input + i) * scale);
  for (; i < count; ++i) output[i] += input[i] * scale;
}

float dot(const float* a, const float* b, int64_t count) {
  Vec products = Vec{};
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) products += load(a + i) * load(b + i);
  float total = sum(products);
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

void to_bfloat16(const float* input, uint16_t* output, int64_t count) {
  typedef uint16_t Halves __attribute__((vector_size(kWidth * 2)));
  typedef uint32_t Bits __attribute__((vector_size(kWidth * 4)));
  const auto rounded = [](Vec x) {
    const Bits bits = (Bits)x;
    const Bits nearest = (bits + (0x7fffu + ((bits >> 16) & 1u))) >> 16;
    return __builtin_convertvector(x == x ? nearest : (bits >> 16) | 0x40u, Halves);
  };
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    const Halves halves = rounded(load(input + i));
    __builtin_memcpy(output + i, &halves, sizeof halves);
  }
  if (i == count) return;
  const Halves halves = rounded(load_some(input + i, count - i));
  for (int64_t j = 0; i + j < count; ++j) output[i + j] = halves[j];
}

}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
