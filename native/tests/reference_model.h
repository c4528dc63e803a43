// A whole model in plain double precision, one example at a time: what runs are held against, and
// what finite differences of their losses are taken of.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/config.h"
#include "reference.h"
#include "tiny_model.h"

namespace bertology::reference {

/// One number inside of a run that is moved: an element of a capture that has layers.
struct Nudge {
  int32_t capture = -1;
  int32_t layer = 0;
  size_t element = 0;
  double step = 0;
};

struct Run {
  std::vector<Values> hidden_states, attentions, entropies, head_outputs;  // by layer
  Values last_block_state, pooled, logits, token_logits, token_losses;
  double loss = 0;
};

class Model {
 public:
  /// dtype: what products round their inputs to, those of attention too where the device under test
  /// rounds these.
  explicit Model(const testing::TinyModel& model, DType dtype = BERTOLOGY_FLOAT32)
      : config_(model.config),
        dtype_(dtype),
        attention_dtype_(testing::on_cpu() ? BERTOLOGY_FLOAT32 : dtype) {
    for (const auto& [name, parameter] : model.parameters)
      parameters_[name] = testing::widen(parameter.values);
  }

  /// Example b of a batch, with the loss of its labels of this kind. mask: [layers, heads].
  Run run(const testing::TinyBatch& batch, size_t b, int32_t loss, const std::vector<float>& mask,
          const Nudge& nudge = {}) const {
    const int64_t first = batch.offsets[b];
    const int64_t n = batch.lengths[b];
    const int64_t width = config_.hidden_size;
    Run run;
    Values state(static_cast<size_t>(n * width));
    for (int64_t i = 0; i < n; ++i) {
      const size_t token = static_cast<size_t>(first + i);
      for (int64_t c = 0; c < width; ++c) {
        double& x = state[static_cast<size_t>(i * width + c)];
        x = at("embeddings.word", batch.ids[token] * width + c) +
            at("embeddings.position", i * width + c);
        if (config_.bert()) x += at("embeddings.token_type", batch.types[token] * width + c);
      }
    }
    if (config_.bert()) state = norm(state, "embeddings.norm");
    const auto show = [&](std::vector<Values>& captured, int32_t capture, Values& values) {
      if (nudge.capture == capture && nudge.layer == static_cast<int32_t>(captured.size()))
        values[nudge.element] += nudge.step;
      captured.push_back(values);
    };
    show(run.hidden_states, BERTOLOGY_HIDDEN_STATES, state);

    for (int32_t l = 0; l < config_.num_hidden_layers; ++l) {
      const std::string layer = "layers." + std::to_string(l) + ".";
      const bool first_norm = config_.norm_first();
      const Values seen = first_norm ? norm(state, layer + "attention_norm") : state;
      const Values q = product(seen, layer + "query"), k = product(seen, layer + "key"),
                   v = product(seen, layer + "value");
      const int64_t heads = config_.num_attention_heads, dim = config_.head_dim();
      Values maps, outputs(state.size()), entropies;
      for (int64_t h = 0; h < heads; ++h) {
        const Head head = {n,
                           n,
                           dim,
                           static_cast<double>(config_.attention_scale(l)),
                           mask[static_cast<size_t>(l * heads + h)],
                           config_.causal(),
                           rounded(columns(q, h, dim), attention_dtype_),
                           rounded(columns(k, h, dim), attention_dtype_),
                           rounded(columns(v, h, dim), attention_dtype_)};
        const Values p = head.probabilities();
        for (int64_t i = 0; i < n; ++i) {
          double entropy = 0;
          for (int64_t j = 0; j < n; ++j) {
            const double x = p[static_cast<size_t>(i * n + j)];
            if (x > 0) entropy -= x * std::log(x);
          }
          entropies.push_back(entropy);
        }
        for (const double x : p) maps.push_back(head.mask * x);
        const Values o = head.outputs(rounded(p, attention_dtype_));
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t c = 0; c < dim; ++c) {
            outputs[static_cast<size_t>(i * width + h * dim + c)] =
                o[static_cast<size_t>(i * dim + c)];
          }
        }
      }
      const Values still = maps;
      show(run.attentions, BERTOLOGY_ATTENTIONS, maps);
      run.entropies.push_back(entropies);
      show(run.head_outputs, BERTOLOGY_HEAD_OUTPUTS, outputs);
      Values context(state.size());
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t c = 0; c < width; ++c) {
          const int64_t h = c / dim;
          const size_t place = static_cast<size_t>(i * width + c);
          context[place] = mask[static_cast<size_t>(l * heads + h)] * outputs[place];
          for (int64_t j = 0; j < n; ++j) {
            const size_t pair = static_cast<size_t>((h * n + i) * n + j);
            context[place] += (maps[pair] - still[pair]) * v[static_cast<size_t>(j * width + c)];
          }
        }
      }
      Values attended = sum(state, product(context, layer + "attention_output"));
      if (!first_norm) attended = norm(attended, layer + "attention_norm");
      Values wide = product(first_norm ? norm(attended, layer + "output_norm") : attended,
                            layer + "intermediate");
      for (double& x : wide) x = activate(config_.activation(), x);
      state = sum(attended, product(wide, layer + "output"));
      if (!first_norm) state = norm(state, layer + "output_norm");
      if (first_norm && l + 1 == config_.num_hidden_layers) {
        run.last_block_state = state;
        state = norm(state, "final_norm");
      }
      show(run.hidden_states, BERTOLOGY_HIDDEN_STATES, state);
    }
    if (loss == BERTOLOGY_MASKED_LM || loss == BERTOLOGY_CAUSAL_LM) {
      predict(batch, b, loss, state, run);
    } else {
      classify(batch, b, loss, state, run);
    }
    return run;
  }

 private:
  double at(const std::string& name, int64_t element) const {
    return parameters_.at(name)[static_cast<size_t>(element)];
  }

  Values norm(const Values& x, const std::string& name) const {
    return layer_norm(x, parameters_.at(name + ".weight"), parameters_.at(name + ".bias"),
                      config_.hidden_size, config_.layer_norm_eps);
  }

  Values product(const Values& x, const std::string& name) const {
    const Values& bias = parameters_.at(name + ".bias");
    const Values& weight = parameters_.at(name + ".weight");
    const int64_t outputs = static_cast<int64_t>(bias.size());
    const int64_t inputs = static_cast<int64_t>(weight.size()) / outputs;
    return linear(rounded(x, dtype_), rounded(weight, dtype_), bias,
                  static_cast<int64_t>(x.size()) / inputs, outputs, inputs);
  }

  static Values rounded(Values values, DType dtype) {
    if (dtype == BERTOLOGY_FLOAT32) return values;  // double precision as it is
    for (double& value : values) value = testing::rounded(static_cast<float>(value), dtype);
    return values;
  }

  static Values sum(Values a, const Values& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }

  Values columns(const Values& matrix, int64_t head, int64_t dim) const {
    Values values;
    const int64_t width = config_.hidden_size;
    for (int64_t r = 0; r < static_cast<int64_t>(matrix.size()) / width; ++r) {
      for (int64_t c = 0; c < dim; ++c)
        values.push_back(matrix[static_cast<size_t>(r * width + head * dim + c)]);
    }
    return values;
  }

  static double cross_entropy(const double* logits, size_t classes, int32_t label) {
    double peak = logits[0], total = 0;
    for (size_t c = 1; c < classes; ++c) peak = std::max(peak, logits[c]);
    for (size_t c = 0; c < classes; ++c) total += std::exp(logits[c] - peak);
    return std::log(total) + peak - logits[label];
  }

  void predict(const testing::TinyBatch& batch, size_t b, int32_t loss, const Values& state,
               Run& run) const {
    const int64_t n = batch.lengths[b];
    Values x = state;
    if (config_.bert()) {
      x = product(x, "masked_lm.transform");
      for (double& value : x) value = activate(config_.activation(), value);
      x = norm(x, "masked_lm.norm");
    }
    const Values& bias = config_.bert() ? parameters_.at("masked_lm.bias") : Values();
    run.token_logits = linear(x, parameters_.at("embeddings.word"), bias, n, config_.vocab_size,
                              config_.hidden_size);
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t labelled = loss == BERTOLOGY_CAUSAL_LM ? i + 1 : i;
      const int32_t label =
          labelled == n ? -100
                        : batch.token_labels[static_cast<size_t>(batch.offsets[b] + labelled)];
      run.token_losses.push_back(
          label < 0 ? 0
                    : cross_entropy(run.token_logits.data() + i * config_.vocab_size,
                                    static_cast<size_t>(config_.vocab_size), label));
      count += label >= 0;
      run.loss += run.token_losses.back();
    }
    run.loss /= static_cast<double>(count);
  }

  void classify(const testing::TinyBatch& batch, size_t b, int32_t loss, const Values& state,
                Run& run) const {
    const int64_t width = config_.hidden_size;
    const bool last = config_.pooling == BERTOLOGY_LAST;
    const int64_t row = last ? batch.lengths[b] - 1 : 0;
    run.pooled = {state.begin() + row * width, state.begin() + (row + 1) * width};
    if (config_.pooling == BERTOLOGY_POOLER) {
      run.pooled = product(run.pooled, "pooler");
      for (double& x : run.pooled) x = std::tanh(x);
    }
    run.logits = product(run.pooled, "classifier");
    if (loss == BERTOLOGY_CLASSIFICATION) {
      run.loss = cross_entropy(run.logits.data(), run.logits.size(), batch.labels[b]);
    } else if (loss == BERTOLOGY_REGRESSION) {
      run.loss = (run.logits[0] - batch.targets[b]) * (run.logits[0] - batch.targets[b]);
    }
  }

  Config config_;
  DType dtype_, attention_dtype_;
  std::map<std::string, Values> parameters_;
};

}  // namespace bertology::reference
