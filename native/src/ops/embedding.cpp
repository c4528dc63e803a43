#include "ops/embedding.h"

#include "base/error.h"
#include "ops/backend.h"

namespace bertology {

void embedding_forward(Stream& stream, const EmbeddingForward& op) {
  check_internal(op.input_ids != nullptr && op.position_ids != nullptr && op.word != nullptr &&
                     op.position != nullptr && (op.gamma == nullptr) == (op.beta == nullptr) &&
                     op.output != nullptr,
                 "embedding_forward: missing buffer");
  check_internal(op.token_type == nullptr || op.token_type_ids != nullptr,
                 "embedding_forward: token types without ids");
  stream.embedding_forward(op);
}

}  // namespace bertology
