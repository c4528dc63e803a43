// oneDNN's matrix product, one thread at a time: the pool above decides what each thread
// multiplies.
#pragma once

#include <dnnl.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/dtype.h"
#include "base/isa.h"

namespace bertology::cpu {

/// Owners of oneDNN's handles.
struct OneDnnDeleter {
  void operator()(dnnl_memory_desc_t desc) const { dnnl_memory_desc_destroy(desc); }
  void operator()(dnnl_primitive_attr_t attr) const { dnnl_primitive_attr_destroy(attr); }
  void operator()(dnnl_primitive_desc_t desc) const { dnnl_primitive_desc_destroy(desc); }
  void operator()(dnnl_primitive_t primitive) const { dnnl_primitive_destroy(primitive); }
  void operator()(dnnl_memory_t memory) const { dnnl_memory_destroy(memory); }
};
using MemoryDesc = std::unique_ptr<dnnl_memory_desc, OneDnnDeleter>;
using Primitive = std::unique_ptr<dnnl_primitive, OneDnnDeleter>;

/// While it lives, OpenMP regions that this thread opens have one thread. oneDNN brings OpenMP; the
/// threads are ours.
class SerialOpenMp {
 public:
  SerialOpenMp();
  ~SerialOpenMp();
  SerialOpenMp(const SerialOpenMp&) = delete;
  SerialOpenMp& operator=(const SerialOpenMp&) = delete;

 private:
  int threads_before_;
};

/// The layout in which oneDNN multiplies by a right-hand matrix [depth, columns] fastest, whatever
/// the number of rows.
MemoryDesc packed_layout(int64_t depth, int64_t columns, DType dtype);

/// How the right-hand matrix B [depth, columns] of a product lies in memory.
enum class Layout2d {
  kBlocks,      // as Kernels::pack makes it, for a product of our own
  kTiles,       // as Kernels::pack_tiles makes it, for a product of our own
  kPacked,      // as packed_layout() says
  kRows,        // plain, row by row
  kTransposed,  // plain, its transpose row by row
};

/// Whether our own kernels multiply by it.
inline bool is_ours(Layout2d layout) {
  return layout == Layout2d::kBlocks || layout == Layout2d::kTiles;
}

/// C [rows, columns] (+)= A [rows, depth] B [depth, columns] + bias
struct ProductShape {
  int64_t rows;
  int64_t depth;
  int64_t columns;
  int64_t a_stride;  // floats (or bfloat16) from row to row
  int64_t b_stride;  // of plain layouts; 0 if packed
  int64_t c_stride;
  DType dtype;  // of A and B; C and bias are float32
  Layout2d b_layout;
  bool bias;
  bool accumulate;

  bool operator==(const ProductShape& other) const;
};

/// A product ready to run. Immutable: any number of threads may execute it at once.
class Product {
 public:
  explicit Product(const ProductShape& shape);
  ~Product();
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  /// a, b, c, bias as the shape says; scratch: scratch_bytes() bytes, aligned to a cache line.
  void execute(const void* a, const void* b, const float* bias, float* c, void* scratch) const;

  int64_t scratch_bytes() const { return scratch_bytes_; }

 private:
  /// oneDNN's objects for the operands of one execution. They are made once and then pointed at
  /// other memory: making them takes as long as a small product.
  struct Operands;
  std::unique_ptr<Operands> take_operands() const;
  void give_back(std::unique_ptr<Operands> operands) const;

  MemoryDesc a_desc_;
  MemoryDesc b_desc_;
  MemoryDesc c_desc_;
  MemoryDesc bias_desc_;
  MemoryDesc scratch_desc_;
  Primitive primitive_;
  int64_t scratch_bytes_ = 0;
  /// Those that no thread uses now, in any slots.
  mutable std::array<std::atomic<Operands*>, 16> free_operands_ = {};
};

/// Products by shape, made when first needed: oneDNN compiles a kernel then, which takes half a
/// millisecond and half a megabyte. It has none for any number of rows with packed weights, so each
/// number of rows is a shape of its own.
class Products {
 public:
  /// Shapes that are kept; those not asked for the longest go. A pass over twelve layers that have
  /// all lost different numbers of heads needs about 200.
  static constexpr size_t kCapacity = 256;

  std::shared_ptr<const Product> find(const ProductShape& shape);
  size_t size() const;

 private:
  struct Hash {
    size_t operator()(const ProductShape& shape) const;
  };
  using Entry = std::pair<ProductShape, std::shared_ptr<const Product>>;

  mutable std::mutex mutex_;
  std::list<Entry> recent_;  // last asked for first
  std::unordered_map<ProductShape, std::list<Entry>::iterator, Hash> places_;
};

/// Moves a matrix [depth, columns] between plain float32 and its packed layout.
class Repacking {
 public:
  /// The strides are those of the plain side, in floats.
  Repacking(int64_t depth, int64_t columns, DType dtype, int64_t depth_stride,
            int64_t column_stride);

  void pack(const float* plain, void* packed) const;
  void unpack(const void* packed, float* plain) const;
  int64_t packed_bytes() const { return packed_bytes_; }

 private:
  MemoryDesc plain_desc_;
  MemoryDesc packed_desc_;
  Primitive pack_;
  Primitive unpack_;
  int64_t packed_bytes_;
};

/// Repackings by shape: most matrices of a model share a few. One lives as long as a matrix has it.
class Repackings {
 public:
  std::shared_ptr<const Repacking> find(int64_t depth, int64_t columns, DType dtype,
                                        int64_t depth_stride, int64_t column_stride);

 private:
  std::mutex mutex_;
  std::map<std::array<int64_t, 5>, std::weak_ptr<const Repacking>> known_;
};

/// Holds oneDNN to the instruction set of our own kernels. Before anything else of oneDNN, once a
/// process.
void limit_onednn(Isa isa);

/// "oneDNN 3.11.0, avx512_core_bf16"
std::string onednn_description();

/// Whether oneDNN multiplies bfloat16 with the processor's own instructions.
bool onednn_has_bfloat16();

}  // namespace bertology::cpu
