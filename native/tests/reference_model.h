// A whole model in plain double precision, one example at a time: what runs are held against, and
// what finite differences of their losses are taken of.
#pragma once

#include <map>
#include <string>
#include <utility>
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

/// What the way back through a layer needs of the way there.
struct Block {
  std::vector<Head> heads;
  Values before_attention_norm, before_output_norm, before_activation;
};

struct Run {
  std::vector<Values> hidden_states, attentions, entropies, head_outputs;  // by layer
  std::vector<Block> blocks;
  Values last_block_state, pooled, logits, token_logits, token_losses;
  Values before_lm_activation, before_lm_norm;
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
      const std::string layer = name_of(l);
      Block block;
      const bool first_norm = config_.norm_first();
      block.before_attention_norm = state;
      const Values seen = first_norm ? norm(state, layer + "attention_norm") : state;
      const Values q = product(seen, layer + "query"), k = product(seen, layer + "key"),
                   v = product(seen, layer + "value");
      const int64_t heads = config_.num_attention_heads, dim = config_.head_dim();
      Values maps, outputs(state.size()), entropies;
      for (int64_t h = 0; h < heads; ++h) {
        Head head = {n,
                     n,
                     dim,
                     static_cast<double>(config_.attention_scale(l)),
                     mask[static_cast<size_t>(l * heads + h)],
                     config_.causal(),
                     columns(q, h, dim),
                     columns(k, h, dim),
                     columns(v, h, dim),
                     attention_dtype_};
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
        const Values o = head.outputs(p);
        put_columns(outputs, o, h, dim);
        block.heads.push_back(std::move(head));
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
      if (!first_norm) {
        block.before_attention_norm = attended;
        attended = norm(attended, layer + "attention_norm");
      }
      block.before_output_norm = attended;
      Values wide = product(first_norm ? norm(attended, layer + "output_norm") : attended,
                            layer + "intermediate");
      block.before_activation = wide;
      for (double& x : wide) x = activate(config_.activation(), x);
      state = sum(attended, product(wide, layer + "output"));
      if (!first_norm) {
        block.before_output_norm = state;
        state = norm(state, layer + "output_norm");
      }
      run.blocks.push_back(std::move(block));
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

  /// dL/dmask of a run without a nudge, [layers, heads]: the chain rule by hand.
  Values head_gradients(const testing::TinyBatch& batch, size_t b, int32_t loss,
                        const std::vector<float>& mask) const {
    const Run run = this->run(batch, b, loss, mask);
    const int64_t heads = config_.num_attention_heads, dim = config_.head_dim();
    const bool first_norm = config_.norm_first();
    Values gradients(mask.size());
    Values d = loss == BERTOLOGY_MASKED_LM || loss == BERTOLOGY_CAUSAL_LM
                   ? predict_backward(batch, b, loss, run)
                   : classify_backward(batch, b, loss, run);
    if (first_norm) d = norm_backward(d, run.last_block_state, "final_norm");
    for (int32_t l = config_.num_hidden_layers - 1; l >= 0; --l) {
      const std::string layer = name_of(l);
      const Block& block = run.blocks[static_cast<size_t>(l)];
      if (!first_norm) d = norm_backward(d, block.before_output_norm, layer + "output_norm");
      Values wide = product_backward(d, layer + "output");
      for (size_t i = 0; i < wide.size(); ++i)
        wide[i] *= activation_slope(config_.activation(), block.before_activation[i]);
      Values narrow = product_backward(wide, layer + "intermediate");
      if (first_norm)
        narrow = norm_backward(narrow, block.before_output_norm, layer + "output_norm");
      d = sum(d, narrow);
      if (!first_norm) d = norm_backward(d, block.before_attention_norm, layer + "attention_norm");

      const Values d_context = product_backward(d, layer + "attention_output");
      Values dq(d.size()), dk(d.size()), dv(d.size());
      for (int64_t h = 0; h < heads; ++h) {
        const Head::Gradients g =
            block.heads[static_cast<size_t>(h)].backward(columns(d_context, h, dim));
        gradients[static_cast<size_t>(l * heads + h)] = g.mask;
        put_columns(dq, g.dq, h, dim);
        put_columns(dk, g.dk, h, dim);
        put_columns(dv, g.dv, h, dim);
      }
      Values d_seen =
          sum(sum(product_backward(dq, layer + "query"), product_backward(dk, layer + "key")),
              product_backward(dv, layer + "value"));
      if (first_norm)
        d_seen = norm_backward(d_seen, block.before_attention_norm, layer + "attention_norm");
      d = sum(d, d_seen);
    }
    return gradients;
  }

 private:
  static std::string name_of(int32_t layer) { return "layers." + std::to_string(layer) + "."; }

  double at(const std::string& name, int64_t element) const {
    return parameters_.at(name)[static_cast<size_t>(element)];
  }

  Values norm(const Values& x, const std::string& name) const {
    return layer_norm(x, parameters_.at(name + ".weight"), parameters_.at(name + ".bias"),
                      config_.hidden_size, config_.layer_norm_eps);
  }

  Values norm_backward(const Values& dy, const Values& x, const std::string& name) const {
    return layer_norm_backward(dy, x, parameters_.at(name + ".weight"), config_.hidden_size,
                               config_.layer_norm_eps);
  }

  static Values product(const Values& x, const Values& weight, const Values& bias, int64_t outputs,
                        DType dtype) {
    const int64_t inputs = static_cast<int64_t>(weight.size()) / outputs;
    return linear(rounded(x, dtype), rounded(weight, dtype), bias,
                  static_cast<int64_t>(x.size()) / inputs, outputs, inputs);
  }
  Values product(const Values& x, const std::string& name) const {
    const Values& bias = parameters_.at(name + ".bias");
    return product(x, parameters_.at(name + ".weight"), bias, static_cast<int64_t>(bias.size()),
                   dtype_of(name));
  }

  static Values product_backward(const Values& dy, const Values& weight, int64_t outputs,
                                 DType dtype) {
    return linear_backward(rounded(dy, dtype), rounded(weight, dtype),
                           static_cast<int64_t>(dy.size()) / outputs, outputs,
                           static_cast<int64_t>(weight.size()) / outputs);
  }
  Values product_backward(const Values& dy, const std::string& name) const {
    return product_backward(dy, parameters_.at(name + ".weight"),
                            static_cast<int64_t>(parameters_.at(name + ".bias").size()),
                            dtype_of(name));
  }

  /// What stands behind the encoder of a classifier is small, and float32.
  DType dtype_of(const std::string& name) const {
    return name == "pooler" || name == "classifier" ? BERTOLOGY_FLOAT32 : dtype_;
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

  void put_columns(Values& matrix, const Values& values, int64_t head, int64_t dim) const {
    for (size_t i = 0; i < values.size(); ++i) {
      const int64_t row = static_cast<int64_t>(i) / dim, c = static_cast<int64_t>(i) % dim;
      matrix[static_cast<size_t>(row * config_.hidden_size + head * dim + c)] = values[i];
    }
  }

  static double cross_entropy(const double* logits, size_t classes, int32_t label) {
    double peak = logits[0], total = 0;
    for (size_t c = 1; c < classes; ++c) peak = std::max(peak, logits[c]);
    for (size_t c = 0; c < classes; ++c) total += std::exp(logits[c] - peak);
    return std::log(total) + peak - logits[label];
  }

  /// Of the prediction at token i; below 0: none.
  static int32_t label_of(const testing::TinyBatch& batch, size_t b, int32_t loss, int64_t i) {
    const int64_t labelled = loss == BERTOLOGY_CAUSAL_LM ? i + 1 : i;
    return labelled == batch.lengths[b]
               ? -100
               : batch.token_labels[static_cast<size_t>(batch.offsets[b] + labelled)];
  }

  /// dL/dlogits of a cross entropy.
  static Values cross_entropy_backward(const double* logits, size_t classes, int32_t label) {
    Values d(classes);
    for (size_t c = 0; c < classes; ++c) {
      d[c] = std::exp(-cross_entropy(logits, classes, static_cast<int32_t>(c))) -
             (c == static_cast<size_t>(label) ? 1 : 0);
    }
    return d;
  }

  void predict(const testing::TinyBatch& batch, size_t b, int32_t loss, const Values& state,
               Run& run) const {
    const int64_t n = batch.lengths[b];
    Values x = state;
    if (config_.bert()) {
      x = product(x, "masked_lm.transform");
      run.before_lm_activation = x;
      for (double& value : x) value = activate(config_.activation(), value);
      run.before_lm_norm = x;
      x = norm(x, "masked_lm.norm");
    }
    const Values& bias = config_.bert() ? parameters_.at("masked_lm.bias") : Values();
    run.token_logits =
        product(x, parameters_.at("embeddings.word"), bias, config_.vocab_size, dtype_);
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int32_t label = label_of(batch, b, loss, i);
      run.token_losses.push_back(
          label < 0 ? 0
                    : cross_entropy(run.token_logits.data() + i * config_.vocab_size,
                                    static_cast<size_t>(config_.vocab_size), label));
      count += label >= 0;
      run.loss += run.token_losses.back();
    }
    run.loss /= static_cast<double>(count);
  }

  /// To the gradient of the last hidden state.
  Values predict_backward(const testing::TinyBatch& batch, size_t b, int32_t loss,
                          const Run& run) const {
    const int64_t n = batch.lengths[b], classes = config_.vocab_size;
    Values d(run.token_logits.size());
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int32_t label = label_of(batch, b, loss, i);
      if (label < 0) continue;
      ++count;
      const Values row = cross_entropy_backward(run.token_logits.data() + i * classes,
                                                static_cast<size_t>(classes), label);
      std::copy(row.begin(), row.end(), d.begin() + static_cast<ptrdiff_t>(i * classes));
    }
    for (double& value : d) value /= static_cast<double>(count);
    d = product_backward(d, parameters_.at("embeddings.word"), classes, dtype_);
    if (!config_.bert()) return d;
    d = norm_backward(d, run.before_lm_norm, "masked_lm.norm");
    for (size_t i = 0; i < d.size(); ++i)
      d[i] *= activation_slope(config_.activation(), run.before_lm_activation[i]);
    return product_backward(d, "masked_lm.transform");
  }

  int64_t pooled_row(const testing::TinyBatch& batch, size_t b) const {
    return config_.pooling == BERTOLOGY_LAST ? batch.lengths[b] - 1 : 0;
  }

  void classify(const testing::TinyBatch& batch, size_t b, int32_t loss, const Values& state,
                Run& run) const {
    const int64_t width = config_.hidden_size;
    const int64_t row = pooled_row(batch, b);
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

  Values classify_backward(const testing::TinyBatch& batch, size_t b, int32_t loss,
                           const Run& run) const {
    Values d = loss == BERTOLOGY_REGRESSION
                   ? Values{2 * (run.logits[0] - batch.targets[b])}
                   : cross_entropy_backward(run.logits.data(), run.logits.size(), batch.labels[b]);
    d = product_backward(d, "classifier");
    if (config_.pooling == BERTOLOGY_POOLER) {
      for (size_t c = 0; c < d.size(); ++c) d[c] *= 1 - run.pooled[c] * run.pooled[c];
      d = product_backward(d, "pooler");
    }
    Values d_state(run.hidden_states.back().size());
    std::copy(d.begin(), d.end(),
              d_state.begin() + static_cast<ptrdiff_t>(pooled_row(batch, b) * config_.hidden_size));
    return d_state;
  }

  Config config_;
  DType dtype_, attention_dtype_;
  std::map<std::string, Values> parameters_;
};

}  // namespace bertology::reference
