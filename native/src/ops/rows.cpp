#include "ops/rows.h"

#include "base/error.h"
#include "ops/backend.h"

namespace bertology {

void gather_rows(Stream& stream, const GatherRows& op) {
  check_internal(op.index != nullptr && op.input != nullptr && op.output != nullptr,
                 "gather_rows: missing buffer");
  stream.gather_rows(op);
}

void scatter_rows(Stream& stream, const ScatterRows& op) {
  check_internal(op.index != nullptr && op.input != nullptr && op.output != nullptr,
                 "scatter_rows: missing buffer");
  stream.scatter_rows(op);
}

void broadcast_row(Stream& stream, const BroadcastRow& op) {
  check_internal(op.row != nullptr && op.output != nullptr, "broadcast_row: missing buffer");
  stream.broadcast_row(op);
}

}  // namespace bertology
