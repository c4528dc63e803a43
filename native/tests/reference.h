// Every operation in plain double precision: slow, obvious, and what the kernels are held against.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/activation.h"
#include "rounding.h"

namespace bertology::reference {

using Values = std::vector<double>;

/// What a product makes of its inputs; float32 stays double precision.
inline double rounded(double x, DType dtype) { return testing::rounded(x, dtype); }
inline Values rounded(Values values, DType dtype) {
  for (double& value : values) value = rounded(value, dtype);
  return values;
}

inline double activate(Activation activation, double x) {
  constexpr double kPi = 3.14159265358979323846;
  switch (activation) {
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluNew:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / kPi) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu:
      return x > 0 ? x : 0;
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    default:
      return x;
  }
}

inline double activation_slope(Activation activation, double x) {
  constexpr double kPi = 3.14159265358979323846;
  switch (activation) {
    case Activation::kGelu:
      return 0.5 * (1 + std::erf(x / std::sqrt(2.0))) +
             x * std::exp(-0.5 * x * x) / std::sqrt(2 * kPi);
    case Activation::kGeluNew: {
      const double c = std::sqrt(2 / kPi);
      const double t = std::tanh(c * (x + 0.044715 * x * x * x));
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
    }
    case Activation::kRelu:
      return x > 0 ? 1 : 0;
    case Activation::kTanh:
      return 1 - std::tanh(x) * std::tanh(x);
    case Activation::kSilu: {
      const double s = 1 / (1 + std::exp(-x));
      return s * (1 + x * (1 - s));
    }
    default:
      return 1;
  }
}

/// y [rows, outputs] = x [rows, inputs] W^T + b
inline Values linear(const Values& x, const Values& w, const Values& b, int64_t rows,
                     int64_t outputs, int64_t inputs) {
  Values y(static_cast<size_t>(rows * outputs));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < outputs; ++o) {
      double sum = b.empty() ? 0 : b[static_cast<size_t>(o)];
      for (int64_t i = 0; i < inputs; ++i) {
        sum += x[static_cast<size_t>(r * inputs + i)] * w[static_cast<size_t>(o * inputs + i)];
      }
      y[static_cast<size_t>(r * outputs + o)] = sum;
    }
  }
  return y;
}

/// dx [rows, inputs] = dy [rows, outputs] W
inline Values linear_backward(const Values& dy, const Values& w, int64_t rows, int64_t outputs,
                              int64_t inputs) {
  Values dx(static_cast<size_t>(rows * inputs), 0.0);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < outputs; ++o) {
      for (int64_t i = 0; i < inputs; ++i) {
        dx[static_cast<size_t>(r * inputs + i)] +=
            dy[static_cast<size_t>(r * outputs + o)] * w[static_cast<size_t>(o * inputs + i)];
      }
    }
  }
  return dx;
}

struct RowStatistics {
  double mean;
  double inverse;
};

inline RowStatistics row_statistics(const double* z, int64_t width, double eps) {
  double mean = 0;
  for (int64_t c = 0; c < width; ++c) mean += z[c];
  mean /= static_cast<double>(width);
  double variance = 0;
  for (int64_t c = 0; c < width; ++c) variance += (z[c] - mean) * (z[c] - mean);
  return {mean, 1 / std::sqrt(variance / static_cast<double>(width) + eps)};
}

inline Values layer_norm(const Values& z, const Values& gamma, const Values& beta, int64_t width,
                         double eps) {
  Values y(z.size());
  for (size_t r = 0; r < z.size(); r += static_cast<size_t>(width)) {
    const RowStatistics s = row_statistics(z.data() + r, width, eps);
    for (size_t c = 0; c < static_cast<size_t>(width); ++c) {
      y[r + c] = (z[r + c] - s.mean) * s.inverse * gamma[c] + beta[c];
    }
  }
  return y;
}

inline Values layer_norm_backward(const Values& dy, const Values& z, const Values& gamma,
                                  int64_t width, double eps) {
  Values dz(z.size());
  const double n = static_cast<double>(width);
  for (size_t r = 0; r < z.size(); r += static_cast<size_t>(width)) {
    const RowStatistics s = row_statistics(z.data() + r, width, eps);
    double mean_d = 0;
    double mean_dx = 0;
    for (size_t c = 0; c < static_cast<size_t>(width); ++c) {
      mean_d += dy[r + c] * gamma[c] / n;
      mean_dx += dy[r + c] * gamma[c] * (z[r + c] - s.mean) * s.inverse / n;
    }
    for (size_t c = 0; c < static_cast<size_t>(width); ++c) {
      const double x = (z[r + c] - s.mean) * s.inverse;
      dz[r + c] = (dy[r + c] * gamma[c] - mean_d - x * mean_dx) * s.inverse;
    }
  }
  return dz;
}

/// One head of one sequence: q [queries, dim], k and v [keys, dim], dense. Its products round their
/// inputs to dtype, gradients to its digits only: they are divided by a power of two first.
struct Head {
  int64_t queries, keys, dim;
  double scale, mask;
  bool causal;
  Values q, k, v;
  DType dtype = BERTOLOGY_FLOAT32;

  Values probabilities() const {  // [queries, keys]
    const Values left = rounded(q, dtype), right = rounded(k, dtype);
    Values p(static_cast<size_t>(queries * keys), 0.0);
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t seen = causal ? i + 1 : keys;
      double peak = -1e300;
      for (int64_t j = 0; j < seen; ++j) {
        double s = 0;
        for (int64_t c = 0; c < dim; ++c) s += at(left, i, c) * at(right, j, c);
        p[static_cast<size_t>(i * keys + j)] = s * scale;
        peak = std::max(peak, s * scale);
      }
      double total = 0;
      for (int64_t j = 0; j < seen; ++j)
        total += std::exp(p[static_cast<size_t>(i * keys + j)] - peak);
      for (int64_t j = 0; j < seen; ++j) {
        double& x = p[static_cast<size_t>(i * keys + j)];
        x = std::exp(x - peak) / total;
      }
    }
    return p;
  }

  Values outputs(const Values& probabilities) const {  // [queries, dim], before the mask
    const Values p = rounded(probabilities, dtype), right = rounded(v, dtype);
    Values o(static_cast<size_t>(queries * dim), 0.0);
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j < keys; ++j) {
        for (int64_t c = 0; c < dim; ++c) {
          o[static_cast<size_t>(i * dim + c)] +=
              p[static_cast<size_t>(i * keys + j)] * at(right, j, c);
        }
      }
    }
    return o;
  }

  struct Gradients {
    Values p, o;            // what they are made of
    Values dq, dk, dv, dp;  // dp: with respect to mask times probabilities
    Values products;        // o_i . dcontext_i
    double mask, mask_by_token;
  };

  /// From the gradient of mask times outputs, [queries, dim].
  Gradients backward(const Values& d_context) const {
    const Values p = probabilities();
    const Values o = outputs(p);
    const Values q_in = rounded(q, dtype), k_in = rounded(k, dtype), v_in = rounded(v, dtype);
    Values d = d_context;
    for (double& value : d) value = testing::rounded_digits(value, dtype);
    Gradients g{p,
                o,
                Values(q.size(), 0.0),
                Values(k.size(), 0.0),
                Values(v.size(), 0.0),
                Values(p.size(), 0.0),
                {},
                0,
                0};
    for (int64_t i = 0; i < queries; ++i) {
      double product = 0;
      for (int64_t c = 0; c < dim; ++c) product += at(o, i, c) * at(d_context, i, c);
      g.products.push_back(product);
      g.mask += product;
      g.mask_by_token += std::abs(product);
      const int64_t seen = causal ? i + 1 : keys;
      for (int64_t j = 0; j < seen; ++j) {
        const double probability = p[static_cast<size_t>(i * keys + j)];
        const double weight = mask * rounded(probability, dtype);
        double dp = 0;
        for (int64_t c = 0; c < dim; ++c) {
          dp += at(d, i, c) * at(v_in, j, c);
          g.dv[static_cast<size_t>(j * dim + c)] += weight * at(d, i, c);
        }
        g.dp[static_cast<size_t>(i * keys + j)] = dp;
        const double ds =
            mask * scale * testing::rounded_digits(probability * (dp - product), dtype);
        for (int64_t c = 0; c < dim; ++c) {
          g.dq[static_cast<size_t>(i * dim + c)] += ds * at(k_in, j, c);
          g.dk[static_cast<size_t>(j * dim + c)] += ds * at(q_in, i, c);
        }
      }
    }
    return g;
  }

 private:
  double at(const Values& m, int64_t row, int64_t c) const {
    return m[static_cast<size_t>(row * dim + c)];
  }
};

}  // namespace bertology::reference
