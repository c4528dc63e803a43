#include "ops/mask_heads.h"

#include "base/error.h"
#include "ops/backend.h"

namespace bertology {

void mask_heads(Stream& stream, const MaskHeads& op) {
  check_internal(op.mask != nullptr && op.input != nullptr && op.output != nullptr,
                 "mask_heads: missing buffer");
  check_internal(op.heads > 0 && op.head_dim > 0, "mask_heads: ", op.heads, " heads of ",
                 op.head_dim);
  stream.mask_heads(op);
}

}  // namespace bertology
