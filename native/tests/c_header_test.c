/* The header is C, and the library can be used from it. Called by api_test.cpp; returns the line
 * that failed, or 0. */
#include <stddef.h>
#include <string.h>

#include "bertology.h"

#define EXPECT(condition)              \
  do {                                 \
    if (!(condition)) return __LINE__; \
  } while (0)

int bertology_c_header_test(void);

int bertology_c_header_test(void) {
  bertology_device* device = NULL;
  bertology_model* model = NULL;
  bertology_activations* activations = NULL;
  bertology_config config;
  int64_t parameters = -1;
  int64_t bytes = -1;
  int32_t heads[2];
  int32_t count = 0;

  EXPECT(bertology_device_open("cpu", 1, &device) == BERTOLOGY_OK);
  EXPECT(strstr(bertology_device_description(device), "threads: 1") != NULL);
  EXPECT(bertology_device_supports(device, BERTOLOGY_FLOAT32) == 1);

  memset(&config, 0, sizeof config);
  EXPECT(bertology_model_create(device, &config, &model) == BERTOLOGY_INVALID_ARGUMENT);
  EXPECT(strstr(bertology_last_error(), "num_hidden_layers is 0") != NULL);
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.hidden_size = 4;
  config.intermediate_size = 8;
  config.vocab_size = 5;
  config.max_position_embeddings = 6;
  config.type_vocab_size = 1;
  config.layer_norm_eps = 1e-12f;
  EXPECT(bertology_model_create(device, &config, &model) == BERTOLOGY_OK);
  EXPECT(bertology_model_size(model, &parameters, &bytes) == BERTOLOGY_OK);
  EXPECT(parameters == 0);
  EXPECT(bertology_model_heads(model, 0, heads, &count) == BERTOLOGY_OK);
  EXPECT(count == 2 && heads[0] == 0 && heads[1] == 1);

  EXPECT(bertology_activations_create(device, &activations) == BERTOLOGY_OK);
  EXPECT(bertology_model_run(model, activations) == BERTOLOGY_INVALID_ARGUMENT);
  bertology_activations_free(activations);
  bertology_model_free(model);
  bertology_device_close(device);
  bertology_activations_free(NULL);
  bertology_model_free(NULL);
  bertology_device_close(NULL);
  return 0;
}
