/*
 * bertology: BERT, OpenAI GPT and GPT-2 from the inside, in plain C.
 *
 * The only public header. It opens nothing and reads no files: the caller hands over weights as
 * named tensors, batches as packed token ids, and reads results as views into memory that the
 * library owns.
 *
 * Conventions
 * - Every function that can fail returns an int: BERTOLOGY_OK or another bertology_status. The text
 * of the last error of the calling thread is bertology_last_error(). Nothing aborts, exits or
 * throws.
 * - Handles are opaque. A handle is freed once by its _free or _close function; freeing NULL is
 * allowed.
 * - A batch has `examples` sequences without padding, one behind the other: example b has the
 * tokens offsets[b] .. offsets[b + 1]. T stands for offsets[examples], all tokens of the batch.
 * - Heads keep their original numbers for ever: layers count from 0, heads from 0 to
 * num_attention_heads - 1, whatever has been pruned.
 * - A model may be run from many threads at once, each with its own bertology_activations. Changing
 * a model (parameters, pruning, restoring) waits until runs in progress have ended.
 */
#ifndef BERTOLOGY_H
#define BERTOLOGY_H

#include <stdint.h> /* int32_t, int64_t */

#ifdef __cplusplus
extern "C" {
#endif

#ifndef BERTOLOGY_API
#define BERTOLOGY_API __attribute__((visibility("default")))
#endif

/* ------------------------------------------------------------------------------------------------
 * errors */

enum bertology_status {
  BERTOLOGY_OK = 0,
  BERTOLOGY_INVALID_ARGUMENT = 1, /* the text names the argument, its value and what was expected */
  BERTOLOGY_UNSUPPORTED = 2,   /* understood, but not possible with this model, device or build */
  BERTOLOGY_OUT_OF_MEMORY = 3, /* nothing was changed; the text says how much was needed */
  BERTOLOGY_DEVICE_ERROR = 4,  /* a device is missing or failed */
  BERTOLOGY_INTERNAL_ERROR = 5 /* a fault of this library */
};

/** Text of the last error in the calling thread, "" if there was none. Valid until the thread's
 * next failing call. */
BERTOLOGY_API const char* bertology_last_error(void);

/** Version of the library, such as "0.1.0". */
BERTOLOGY_API const char* bertology_version(void);

/* ------------------------------------------------------------------------------------------------
 * devices */

/** Element types of stored weights, and of the inputs of matrix products. */
enum bertology_dtype { BERTOLOGY_FLOAT32 = 0, BERTOLOGY_FLOAT16 = 1, BERTOLOGY_BFLOAT16 = 2 };

/** A device: its threads or streams, its kernels. Shared by models; it lives until the last of them
 * is freed. */
typedef struct bertology_device bertology_device;

/**
 * Opens a device by name: "cpu", "cuda:0", "cuda:1" and so on; "cuda" is the first of these.
 * `threads` is the size of the CPU's thread pool, which all runs share; 0 takes the number of
 * processors this process may use (affinity and cgroup quota).
 */
BERTOLOGY_API int bertology_device_open(const char* name, int32_t threads,
                                        bertology_device** device);

/**
 * Where libbertology_cuda.so is, the CUDA devices' part of this library, which is loaded when one
 * of them is first asked for; by default the system's loader finds it by its name.
 */
BERTOLOGY_API int bertology_set_cuda_library(const char* path);

/**
 * How many CUDA devices can be opened. If none, bertology_last_error() says why: no library, no
 * driver, one that is too old, no device.
 */
BERTOLOGY_API int bertology_cuda_device_count(int32_t* count);

/** Gives the caller's share of the device back. */
BERTOLOGY_API void bertology_device_close(bertology_device* device);

/**
 * What was chosen and why, one line each: device, threads, instruction set, library versions. Valid
 * while the device is open.
 */
BERTOLOGY_API const char* bertology_device_description(const bertology_device* device);

/** 1 if matrix products on this device can take inputs of this bertology_dtype at hardware speed,
 * else 0. */
BERTOLOGY_API int bertology_device_supports(const bertology_device* device, int32_t dtype);

/**
 * Measures the device's own limit for matrix products: the fastest of many large products that fit
 * its caches, over all its threads, for about `seconds`. Writes floating-point operations per
 * second. Other runs on the device disturb it.
 */
BERTOLOGY_API int bertology_device_matrix_peak(bertology_device* device, int32_t dtype,
                                               double seconds, double* flops);

/**
 * Measures how fast the device copies from its memory to its memory, in blocks that no cache holds,
 * for about `seconds`: the limit of what reads and writes more than it computes. Writes bytes per
 * second, those read and those written together. Other runs on the device disturb it.
 */
BERTOLOGY_API int bertology_device_copy_peak(bertology_device* device, double seconds,
                                             double* bytes);

/* ------------------------------------------------------------------------------------------------
 * models */

/** What a transformer is built like. */
enum bertology_model_type {
  BERTOLOGY_BERT = 0, /* every token sees all; each block's norm stands behind its residual sum */
  BERTOLOGY_GPT2 = 1, /* causal; the norms stand before the blocks, and one behind the last */
  BERTOLOGY_OPENAI_GPT = 2, /* causal; norms as in BERT */
  BERTOLOGY_MODEL_TYPE_COUNT = 3
};

/** Activation of the feed-forward blocks. */
enum bertology_hidden_act {
  BERTOLOGY_GELU = 0,     /* x / 2 (1 + erf(x / sqrt 2)) */
  BERTOLOGY_GELU_NEW = 1, /* tanh approximation of GELU */
  BERTOLOGY_RELU = 2,
  BERTOLOGY_SILU = 3, /* x / (1 + e^-x) */
  BERTOLOGY_TANH = 4,
  BERTOLOGY_HIDDEN_ACT_COUNT = 5
};

/** How the last hidden states of a sequence become the one vector that the classifier sees. */
enum bertology_pooling {
  BERTOLOGY_POOLER = 0,          /* tanh(pooler(first token)), as BertForSequenceClassification */
  BERTOLOGY_CLS = 1,             /* first token */
  BERTOLOGY_CLS_NORMALIZED = 2,  /* first token, divided by its Euclidean length */
  BERTOLOGY_MEAN = 3,            /* mean of all tokens */
  BERTOLOGY_MEAN_NORMALIZED = 4, /* mean of all tokens, divided by its Euclidean length */
  BERTOLOGY_LAST = 5,            /* last token, as GPT2ForSequenceClassification */
  BERTOLOGY_POOLING_COUNT = 6
};

/** Shape of a model, under Hugging Face's names. hidden_size must be a multiple of
 * num_attention_heads. */
typedef struct bertology_config {
  int32_t num_hidden_layers;
  int32_t num_attention_heads;
  int32_t hidden_size;
  int32_t intermediate_size;
  int32_t vocab_size;
  int32_t max_position_embeddings;
  int32_t type_vocab_size; /* 0 for a GPT, which has no segments */
  int32_t hidden_act;      /* bertology_hidden_act */
  float layer_norm_eps;
  int32_t num_labels; /* outputs of the classifier; 0 if there is none */
  int32_t pooling;    /* bertology_pooling; only BERT has a POOLER */
  int32_t dtype; /* inputs of matrix products: FLOAT32, or another where the device supports it */
  int32_t model_type; /* bertology_model_type */
  /* Of GPT2; the others divide scores by the square root of a head's width and by nothing else. */
  int32_t scale_attn_weights;              /* divide scores by that root */
  int32_t scale_attn_by_inverse_layer_idx; /* divide scores by the layer's number + 1 */
} bertology_config;

/** A tensor of the caller, in host memory. Element (i, j) is at data + (i strides[0] + j
 * strides[1]) elements. */
typedef struct bertology_tensor {
  int32_t dtype; /* bertology_dtype */
  int32_t rank;  /* 1 or 2 */
  int64_t shape[2];
  int64_t strides[2]; /* in elements */
  const void* data;
} bertology_tensor;

/** A transformer with optional task heads, its weights resident on one device. */
typedef struct bertology_model bertology_model;

/** Makes a model without weights. The device stays open while the model lives. */
BERTOLOGY_API int bertology_model_create(bertology_device* device, const bertology_config* config,
                                         bertology_model** model);

/** Frees a model. No run may be in progress. Activations that it made stay valid. */
BERTOLOGY_API void bertology_model_free(bertology_model* model);

/**
 * Copies one parameter into the model, converted and packed for the device. Every value must be
 * finite. Matrices are [outputs, inputs]; A is head_dim times the heads that layer l has, D
 * hidden_size, I intermediate_size:
 *
 *   embeddings.word            [vocab_size, D]     embeddings.position [max_position_embeddings, D]
 *   embeddings.token_type      [type_vocab_size, D]                                   (BERT)
 *   embeddings.norm.weight     [D]                 embeddings.norm.bias       [D]     (BERT)
 *   layers.{l}.query.weight    [A, D]              layers.{l}.query.bias      [A]      (and key,
 * value) layers.{l}.attention_output.weight [D, A]      layers.{l}.attention_output.bias [D]
 *   layers.{l}.attention_norm.weight   [D]         layers.{l}.attention_norm.bias   [D]
 *   layers.{l}.intermediate.weight     [I, D]      layers.{l}.intermediate.bias     [I]
 *   layers.{l}.output.weight           [D, I]      layers.{l}.output.bias           [D]
 *   layers.{l}.output_norm.weight      [D]         layers.{l}.output_norm.bias      [D]
 *   final_norm.weight          [D]                 final_norm.bias            [D]     (GPT2)
 *   pooler.weight              [D, D]              pooler.bias                [D]     (BERT)
 *   classifier.weight          [num_labels, D]     classifier.bias            [num_labels]
 *   masked_lm.transform.weight [D, D]              masked_lm.transform.bias   [D]
 *   masked_lm.norm.weight      [D]                 masked_lm.norm.bias        [D]
 *   masked_lm.bias             [vocab_size]
 *   masked_lm.decoder.weight   [vocab_size, D]     (only where it is not tied to embeddings.word)
 *   lm_head.weight             [vocab_size, D]     (the same of a GPT; masked_lm is BERT's)
 *
 * attention_norm and output_norm are those of the attention and of the feed-forward block, wherever
 * they stand. A run that needs a parameter which was never set fails and names it; a GPT's
 * classifier needs no bias.
 */
BERTOLOGY_API int bertology_model_set_parameter(bertology_model* model, const char* name,
                                                const bertology_tensor* value);

/** Gives the classifier a new shape and pooling; classifier.weight and classifier.bias must then be
 * set again. */
BERTOLOGY_API int bertology_model_set_classifier_shape(bertology_model* model, int32_t num_labels,
                                                       int32_t pooling);

/** Number of parameters that are set, and the bytes that the model's weights take on its device. */
BERTOLOGY_API int bertology_model_size(bertology_model* model, int64_t* parameters, int64_t* bytes);

/**
 * Removes heads in place: their rows of query, key and value and their columns of attention_output.
 * Memory and run time fall; the peak of extra memory is one layer's attention weights. All heads of
 * a layer may go. Before the layer's parameters are set, only the expected shapes change (this is
 * how a pruned checkpoint is loaded). Fails, with nothing changed, if a head is out of range, named
 * twice or already pruned. layers, heads: [count], pairs.
 */
BERTOLOGY_API int bertology_model_prune_heads(bertology_model* model, int32_t count,
                                              const int32_t* layers, const int32_t* heads);

/**
 * Brings pruned heads back. tensors: [layer_count][7], for each layer of `tensor_layers` the query,
 * key and value weights, the query, key and value biases, and the attention_output weight, with
 * every head that the layer had when its parameters were first set. Fails, with nothing changed, if
 * a head is not pruned, was not in the checkpoint, or its layer's tensors are not given. layers,
 * heads: [count], pairs. tensor_layers: [layer_count].
 */
BERTOLOGY_API int bertology_model_restore_heads(bertology_model* model, int32_t count,
                                                const int32_t* layers, const int32_t* heads,
                                                int32_t layer_count, const int32_t* tensor_layers,
                                                const bertology_tensor* tensors);

/** Writes the heads that a layer still has, ascending, to heads [num_attention_heads], and their
 * number to count. */
BERTOLOGY_API int bertology_model_heads(bertology_model* model, int32_t layer, int32_t* heads,
                                        int32_t* count);

/* ------------------------------------------------------------------------------------------------
 * operations one at a time */

/** The operations of a layer and of what stands around the layers. MAPS: with attention maps, or
 * their gradients, captured. */
enum bertology_operation {
  BERTOLOGY_OPERATION_EMBEDDING = 0,
  BERTOLOGY_OPERATION_QUERY_KEY_VALUE = 1, /* a matrix product, like the others named so */
  BERTOLOGY_OPERATION_ATTENTION_FORWARD = 2,
  BERTOLOGY_OPERATION_ATTENTION_FORWARD_MAPS = 3,
  BERTOLOGY_OPERATION_ATTENTION_OUTPUT = 4, /* product */
  BERTOLOGY_OPERATION_LAYER_NORM = 5,       /* with the residual sum */
  BERTOLOGY_OPERATION_INTERMEDIATE = 6,     /* product, with the activation */
  BERTOLOGY_OPERATION_OUTPUT = 7,           /* product */
  BERTOLOGY_OPERATION_POOLING = 8,
  BERTOLOGY_OPERATION_GATHER_ROWS = 9,
  BERTOLOGY_OPERATION_CROSS_ENTROPY = 10, /* of a language model, 1024 tokens at most */
  BERTOLOGY_OPERATION_ACTIVATION_BACKWARD = 11,
  BERTOLOGY_OPERATION_LAYER_NORM_BACKWARD = 12,
  BERTOLOGY_OPERATION_OUTPUT_BACKWARD = 13,           /* product, with the activation's slope */
  BERTOLOGY_OPERATION_INTERMEDIATE_BACKWARD = 14,     /* product */
  BERTOLOGY_OPERATION_ATTENTION_OUTPUT_BACKWARD = 15, /* product */
  BERTOLOGY_OPERATION_HEAD_GRADIENTS = 16, /* attention backward where nobody needs more */
  BERTOLOGY_OPERATION_ATTENTION_BACKWARD = 17,
  BERTOLOGY_OPERATION_ATTENTION_BACKWARD_MAPS = 18,
  BERTOLOGY_OPERATION_QUERY_KEY_VALUE_BACKWARD = 19, /* product */
  BERTOLOGY_OPERATION_COUNT = 20
};

/** What is found of an operation. Times are medians, in seconds. */
enum bertology_measure {
  BERTOLOGY_MEASURE_SECONDS = 0, /* of the operation; a product on a CUDA device: of our kernels */
  BERTOLOGY_MEASURE_LIBRARY_SECONDS =
      1, /* of a product on a CUDA device as cuBLAS makes it, with what is left to do before and
            after it; else 0, and where cuBLAS was not found */
  BERTOLOGY_MEASURE_COPY_SECONDS = 2, /* of a copy inside the device's memory of as many bytes, half
                                         of them read and half written, as the operation moves at
                                         least */
  BERTOLOGY_MEASURE_LEAST_BYTES = 3,  /* operands read once, results written once */
  BERTOLOGY_MEASURE_LEAST_FLOPS = 4,  /* of matrix products, attention's too; 0: none */
  BERTOLOGY_MEASURE_COUNT = 5
};

/**
 * Times one operation alone, on random numbers, for `examples` texts of `length` tokens in a layer
 * of this shape and dtype, in turn with what it is held against, for about `seconds`. measures:
 * [BERTOLOGY_MEASURE_COUNT]. Other runs on the device disturb it.
 */
BERTOLOGY_API int bertology_device_measure(bertology_device* device, int32_t operation,
                                           const bertology_config* config, int32_t examples,
                                           int32_t length, double seconds, double* measures);

/* ------------------------------------------------------------------------------------------------
 * sums over many runs */

/** What is summed of each head over examples: with g the gradient of an example's loss with respect
 * to the head's mask (HEAD_GRADIENTS), g_i the part of it that token i adds. */
enum bertology_head_sum {
  BERTOLOGY_SIGNED_SUM = 0,         /* g */
  BERTOLOGY_ABSOLUTE_SUM = 1,       /* |g| (Michel et al. 2019, equation 2) */
  BERTOLOGY_SQUARED_SUM = 2,        /* g^2: diagonal Fisher information, times the examples */
  BERTOLOGY_TOKEN_ABSOLUTE_SUM = 3, /* |g_i|, over the tokens too */
  BERTOLOGY_HEAD_SUM_COUNT = 4
};

/**
 * Sums of heads' gradients over the examples of many runs, kept in double precision where the runs
 * are: no gradient is copied to the host. Runs of many threads may add to one at once.
 */
typedef struct bertology_accumulator bertology_accumulator;

/** Makes sums, all 0, for runs on this device of models with so many layers and heads. */
BERTOLOGY_API int bertology_accumulator_create(bertology_device* device, int32_t layers,
                                               int32_t heads, bertology_accumulator** accumulator);

/** Frees sums. Runs that were asked to add to them still may. */
BERTOLOGY_API void bertology_accumulator_free(bertology_accumulator* accumulator);

/** Makes all sums and counts 0. */
BERTOLOGY_API int bertology_accumulator_reset(bertology_accumulator* accumulator);

/**
 * Copies the sums of the runs that have ended. sums: [layers, heads, BERTOLOGY_HEAD_SUM_COUNT] of
 * `count` numbers; pruned heads have 0, and so has what masked heads added unless their gradients
 * were asked for. examples, tokens: how many they are of.
 */
BERTOLOGY_API int bertology_accumulator_read(bertology_accumulator* accumulator, double* sums,
                                             int64_t count, int64_t* examples, int64_t* tokens);

/* ------------------------------------------------------------------------------------------------
 * runs */

/**
 * What a run can show. n is the length of an example, L num_hidden_layers, H num_attention_heads, K
 * the heads that the layer still has, D hidden_size, d head_dim. Gradients are those of each
 * example's own loss: an example gives the same numbers in any batch.
 */
enum bertology_capture {
  BERTOLOGY_LOGITS = 0,        /* [num_labels] an example: the classifier's outputs */
  BERTOLOGY_TOKEN_LOGITS = 1,  /* [n, vocab_size]: the language model's outputs */
  BERTOLOGY_POOLER_OUTPUT = 2, /* [D]: what the classifier sees */
  BERTOLOGY_HIDDEN_STATES = 3, /* layers 0 .. L, [n, D]: 0 is the embeddings, L the last layer's
                                  output; of GPT2 behind the final norm */
  BERTOLOGY_ATTENTIONS = 4,    /* layers 0 .. L-1, [K, n, n]: times the head mask, as Hugging Face
                                  gives them; what a    causal token does not see is 0 */
  BERTOLOGY_ATTENTION_ENTROPIES =
      5, /* layers 0 .. L-1, [K, n]: -sum p ln p of each row, in nats, before the mask */
  BERTOLOGY_HEAD_OUTPUTS =
      6,              /* layers 0 .. L-1, [n, K, d]: before attention_output, before the mask */
  BERTOLOGY_LOSS = 7, /* scalar */
  BERTOLOGY_HEAD_GRADIENTS =
      8, /* [L, H]: dloss/dmask = sum_i o_i . dloss/do_i over tokens i (Michel et al. 2019);
            0 for pruned heads, and for masked ones unless asked for */
  BERTOLOGY_TOKEN_HEAD_GRADIENTS =
      9, /* [L, H]: sum_i |o_i . dloss/do_i|, the absolute value taken per token */
  BERTOLOGY_HEAD_OUTPUT_GRADIENTS = 10,  /* layers 0 .. L-1, [n, K, d]: dloss/d(HEAD_OUTPUTS) */
  BERTOLOGY_ATTENTION_GRADIENTS = 11,    /* layers 0 .. L-1, [K, n, n]: dloss/d(ATTENTIONS) */
  BERTOLOGY_HIDDEN_STATE_GRADIENTS = 12, /* layers 0 .. L, [n, D]: dloss/d(HIDDEN_STATES) */
  BERTOLOGY_LAST_BLOCK_STATE = 13, /* [n, D]: the last layer's output before GPT2's final norm */
  BERTOLOGY_TOKEN_LOSSES = 14, /* [n]: the cross entropy of each token's TOKEN_LOGITS; 0 where there
                                  is nothing to predict */
  BERTOLOGY_TOKEN_PREDICTIONS = 15, /* [n]: the id of the largest of each token's TOKEN_LOGITS */
  BERTOLOGY_CAPTURE_COUNT = 16
};

/** The loss of an example. */
enum bertology_loss {
  BERTOLOGY_NO_LOSS = 0,
  BERTOLOGY_CLASSIFICATION = 1, /* cross entropy of LOGITS against a label */
  BERTOLOGY_REGRESSION = 2,     /* squared error of the only logit against a target */
  BERTOLOGY_MASKED_LM = 3, /* mean cross entropy of TOKEN_LOGITS over the tokens with a label */
  BERTOLOGY_CAUSAL_LM =
      4 /* the same of a GPT: the logits of a token against the label of the next */
};

/** Label of a token that does not count in BERTOLOGY_MASKED_LM and BERTOLOGY_CAUSAL_LM. */
enum { BERTOLOGY_IGNORED_LABEL = -100 };

/** One run: its batch, what to capture, and afterwards the results. Reusable; its memory grows and
 * is kept. */
typedef struct bertology_activations bertology_activations;

/** Makes activations for runs on models of this device. */
BERTOLOGY_API int bertology_activations_create(bertology_device* device,
                                               bertology_activations** activations);

/** Frees activations and unmaps their memory: no view of it may be read after this. */
BERTOLOGY_API void bertology_activations_free(bertology_activations* activations);

/**
 * Gives the memory of the results back to the system at once, but keeps the addresses: views read
 * zeros, and do not crash, until _free.
 */
BERTOLOGY_API int bertology_activations_discard(bertology_activations* activations);

/**
 * Sets the batch and forgets labels, head masks, captures and sums of the run before. The arrays
 * are copied. offsets: [examples + 1], ascending from 0, no empty example. input_ids: [T].
 * token_type_ids: [T], or NULL for zeros.
 */
BERTOLOGY_API int bertology_activations_set_batch(bertology_activations* activations,
                                                  int32_t examples, const int64_t* offsets,
                                                  const int32_t* input_ids,
                                                  const int32_t* token_type_ids);

/**
 * labels: CLASSIFICATION [examples], MASKED_LM and CAUSAL_LM [T]; `loss` says which. In CAUSAL_LM
 * NULL, with count 0, makes every token its own label. The label of an example's first token is not
 * predicted by any.
 */
BERTOLOGY_API int bertology_activations_set_labels(bertology_activations* activations, int32_t loss,
                                                   const int32_t* labels, int64_t count);

/** targets: REGRESSION, [examples]. */
BERTOLOGY_API int bertology_activations_set_targets(bertology_activations* activations,
                                                    const float* targets, int64_t count);

/**
 * head_mask: [num_hidden_layers, num_attention_heads], values in [0, 1]: each head's output is
 * multiplied by its value. A head with 0 is not computed unless HEAD_OUTPUTS or ATTENTION_ENTROPIES
 * of its layer are captured, or masked_gradients is not 0: then its gradients are given too. A
 * pruned head must have the value 1.
 */
BERTOLOGY_API int bertology_activations_set_head_mask(bertology_activations* activations,
                                                      const float* head_mask, int64_t count,
                                                      int32_t masked_gradients);

/**
 * Makes the run a sweep over head masks, which replace the one head mask: it gives, for each mask,
 * what a run with that mask would, to the last bit on the CPU, but computes the layers below the
 * first in which masks differ once for all of them, and there the attention too. So all single
 * heads of a model can be masked in half the time of as many runs. Captures that it can show are
 * LOGITS, POOLER_OUTPUT, LOSS, TOKEN_LOSSES and TOKEN_PREDICTIONS. head_masks: [masks,
 * num_hidden_layers, num_attention_heads] of `count` numbers, each mask as in _set_head_mask, in
 * any order.
 */
BERTOLOGY_API int bertology_activations_set_head_masks(bertology_activations* activations,
                                                       const float* head_masks, int32_t masks,
                                                       int64_t count);

/**
 * Asks runs to add their examples' head gradients to these sums, as a part of the backward pass. A
 * run that fails adds nothing. NULL: to none. The sums are kept until they are replaced or a batch
 * is set, even if they were freed.
 */
BERTOLOGY_API int bertology_activations_set_accumulator(bertology_activations* activations,
                                                        bertology_accumulator* accumulator);

/** Asks for a capture: of the given layers, or of all if count is 0. Asking again adds. */
BERTOLOGY_API int bertology_activations_capture(bertology_activations* activations, int32_t capture,
                                                const int32_t* layers, int32_t count);

/**
 * Runs the batch. Nothing that was not captured is kept, and nothing is computed that no capture
 * needs. On failure the activations hold no results.
 */
BERTOLOGY_API int bertology_model_run(bertology_model* model, bertology_activations* activations);

/**
 * Where a captured tensor is. example -1 gives the whole batch: [T, ...] for captures by token,
 * [examples, ...] for captures by example; captures by pair of tokens (ATTENTIONS, ENTROPIES, their
 * gradients) as one flat run of the examples' blocks. `layer` is ignored by captures that have no
 * layers. view: [6]: offset in floats from the start of the activations' memory, number of
 * elements, rank, three sizes. After a sweep over head masks, -1 gives all of them: [masks,
 * examples, ...] or [masks, T], and m examples + b gives example b under mask m.
 */
BERTOLOGY_API int bertology_activations_tensor(bertology_activations* activations, int32_t capture,
                                               int32_t layer, int32_t example, int64_t* view);

/** Address and size in bytes of the memory that results are in. It may move at a run, not between.
 * memory: [2]. */
BERTOLOGY_API int bertology_activations_memory(bertology_activations* activations, int64_t* memory);

#ifdef __cplusplus
}
#endif

#endif /* BERTOLOGY_H */
