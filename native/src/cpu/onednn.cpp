#include "cpu/onednn.h"

#include <array>

#include "base/error.h"

extern "C" {
void omp_set_num_threads(int threads);
int omp_get_max_threads(void);
}

namespace bertology::cpu {
namespace {

void check(dnnl_status_t status, const char* call) {
  if (status == dnnl_success) return;
  if (status == dnnl_out_of_memory)
    fail(BERTOLOGY_OUT_OF_MEMORY, "out of memory in oneDNN's ", call);
  fail(BERTOLOGY_INTERNAL_ERROR, "oneDNN's ", call, " failed: status ", static_cast<int>(status));
}

/// One engine for the process: it has no state of ours.
dnnl_engine_t engine() {
  static const dnnl_engine_t engine = [] {
    // oneDNN would keep the last 1024 kernels too. Enough for packing a matrix are these.
    check(dnnl_set_primitive_cache_capacity(16), "set_primitive_cache_capacity");
    dnnl_engine_t made = nullptr;
    check(dnnl_engine_create(&made, dnnl_cpu, 0), "engine_create");
    return made;
  }();
  return engine;
}

/// A stream of the calling thread: streams may not be shared.
dnnl_stream_t stream() {
  struct Owner {
    dnnl_stream_t stream = nullptr;
    Owner() {
      check(dnnl_stream_create(&stream, engine(), dnnl_stream_default_flags), "stream_create");
    }
    ~Owner() { dnnl_stream_destroy(stream); }
  };
  static thread_local const Owner owner;
  return owner.stream;
}

dnnl_data_type_t type_of(DType dtype) { return dtype == BERTOLOGY_BFLOAT16 ? dnnl_bf16 : dnnl_f32; }

MemoryDesc matrix(int64_t rows, int64_t columns, dnnl_data_type_t type, int64_t row_stride,
                  int64_t column_stride) {
  const dnnl_dims_t dims = {rows, columns};
  const dnnl_dims_t strides = {row_stride, column_stride};
  dnnl_memory_desc_t desc = nullptr;
  check(dnnl_memory_desc_create_with_strides(&desc, 2, dims, type, strides),
        "memory_desc_create_with_strides");
  return MemoryDesc(desc);
}

MemoryDesc clone(const_dnnl_memory_desc_t desc) {
  dnnl_memory_desc_t copy = nullptr;
  check(dnnl_memory_desc_clone(&copy, desc), "memory_desc_clone");
  return MemoryDesc(copy);
}

using Attributes = std::unique_ptr<dnnl_primitive_attr, OneDnnDeleter>;
using PrimitiveDesc = std::unique_ptr<dnnl_primitive_desc, OneDnnDeleter>;

Primitive make(const PrimitiveDesc& desc) {
  dnnl_primitive_t primitive = nullptr;
  check(dnnl_primitive_create(&primitive, desc.get()), "primitive_create");
  return Primitive(primitive);
}

/// A view of memory for the time of one execution.
std::unique_ptr<dnnl_memory, OneDnnDeleter> view(const_dnnl_memory_desc_t desc, const void* data) {
  dnnl_memory_t memory = nullptr;
  check(dnnl_memory_create(&memory, desc, engine(), const_cast<void*>(data)), "memory_create");
  return std::unique_ptr<dnnl_memory, OneDnnDeleter>(memory);
}

void reorder(dnnl_primitive_t primitive, const_dnnl_memory_desc_t from_desc, const void* from,
             const_dnnl_memory_desc_t to_desc, void* to) {
  const SerialOpenMp serial;
  const auto source = view(from_desc, from);
  const auto target = view(to_desc, to);
  const std::array<dnnl_exec_arg_t, 2> arguments = {
      {{DNNL_ARG_FROM, source.get()}, {DNNL_ARG_TO, target.get()}}};
  check(dnnl_primitive_execute(primitive, stream(), 2, arguments.data()), "reorder");
}

}  // namespace

SerialOpenMp::SerialOpenMp() : threads_before_(omp_get_max_threads()) { omp_set_num_threads(1); }

SerialOpenMp::~SerialOpenMp() { omp_set_num_threads(threads_before_); }

MemoryDesc packed_layout(int64_t depth, int64_t columns, DType dtype) {
  constexpr int64_t kTypicalRows = 64;
  const SerialOpenMp serial;
  const MemoryDesc a = matrix(kTypicalRows, depth, type_of(dtype), depth, 1);
  const MemoryDesc c = matrix(kTypicalRows, columns, dnnl_f32, columns, 1);
  const dnnl_dims_t dims = {depth, columns};
  dnnl_memory_desc_t any = nullptr;
  check(dnnl_memory_desc_create_with_tag(&any, 2, dims, type_of(dtype), dnnl_format_tag_any),
        "memory_desc_create_with_tag");
  const MemoryDesc b(any);
  dnnl_primitive_desc_t raw = nullptr;
  check(dnnl_matmul_primitive_desc_create(&raw, engine(), a.get(), b.get(), nullptr, c.get(),
                                          nullptr),
        "matmul_primitive_desc_create");
  const PrimitiveDesc desc(raw);
  return clone(dnnl_primitive_desc_query_md(raw, dnnl_query_weights_md, 0));
}

bool ProductShape::operator==(const ProductShape& o) const {
  return rows == o.rows && depth == o.depth && columns == o.columns && a_stride == o.a_stride &&
         b_stride == o.b_stride && c_stride == o.c_stride && dtype == o.dtype &&
         b_layout == o.b_layout && bias == o.bias && accumulate == o.accumulate;
}

size_t Products::Hash::operator()(const ProductShape& s) const {
  size_t hash = 0;
  const std::array<int64_t, 10> fields = {
      s.rows,     s.depth,     s.columns, s.a_stride,
      s.b_stride, s.c_stride,  s.dtype,   static_cast<int64_t>(s.b_layout),
      s.bias,     s.accumulate};
  for (const int64_t field : fields) hash = hash * 1000003u + std::hash<int64_t>()(field);
  return hash;
}

Product::Product(const ProductShape& shape)
    : a_desc_(matrix(shape.rows, shape.depth, type_of(shape.dtype), shape.a_stride, 1)),
      c_desc_(matrix(shape.rows, shape.columns, dnnl_f32, shape.c_stride, 1)) {
  const SerialOpenMp serial;  // the number of threads is fixed when the primitive is made
  const dnnl_data_type_t type = type_of(shape.dtype);
  MemoryDesc b;
  switch (shape.b_layout) {
    case Layout2d::kBlocks:
    case Layout2d::kTiles:
      check_internal(false, "Product: a matrix in blocks or tiles is not for oneDNN");
      break;
    case Layout2d::kPacked:
      b = packed_layout(shape.depth, shape.columns, shape.dtype);
      break;
    case Layout2d::kRows:
      b = matrix(shape.depth, shape.columns, type, shape.b_stride, 1);
      break;
    case Layout2d::kTransposed:
      b = matrix(shape.depth, shape.columns, type, 1, shape.b_stride);
      break;
  }
  if (shape.bias) bias_desc_ = matrix(1, shape.columns, dnnl_f32, shape.columns, 1);

  dnnl_primitive_attr_t raw_attributes = nullptr;
  check(dnnl_primitive_attr_create(&raw_attributes), "primitive_attr_create");
  const Attributes attributes(raw_attributes);
  check(dnnl_primitive_attr_set_scratchpad_mode(raw_attributes, dnnl_scratchpad_mode_user),
        "set_scratchpad_mode");
  if (shape.accumulate) {
    dnnl_post_ops_t post_ops = nullptr;
    check(dnnl_post_ops_create(&post_ops), "post_ops_create");
    dnnl_status_t status = dnnl_post_ops_append_sum(post_ops, 1.0f, 0, dnnl_data_type_undef);
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(raw_attributes, post_ops);
    dnnl_post_ops_destroy(post_ops);
    check(status, "post_ops_append_sum");
  }

  dnnl_primitive_desc_t raw_desc = nullptr;
  check(dnnl_matmul_primitive_desc_create(&raw_desc, engine(), a_desc_.get(), b.get(),
                                          bias_desc_.get(), c_desc_.get(), raw_attributes),
        "matmul_primitive_desc_create");
  const PrimitiveDesc desc(raw_desc);
  b_desc_ = clone(dnnl_primitive_desc_query_md(raw_desc, dnnl_query_weights_md, 0));
  scratch_desc_ = clone(dnnl_primitive_desc_query_md(raw_desc, dnnl_query_scratchpad_md, 0));
  scratch_bytes_ = static_cast<int64_t>(dnnl_memory_desc_get_size(scratch_desc_.get()));
  primitive_ = make(desc);
}

struct Product::Operands {
  using Memory = std::unique_ptr<dnnl_memory, OneDnnDeleter>;

  explicit Operands(const Product& product)
      : a(view(product.a_desc_.get(), nullptr)),
        b(view(product.b_desc_.get(), nullptr)),
        c(view(product.c_desc_.get(), nullptr)),
        scratch(view(product.scratch_desc_.get(), nullptr)),
        bias(product.bias_desc_ == nullptr ? nullptr : view(product.bias_desc_.get(), nullptr)),
        arguments({{{DNNL_ARG_SRC, a.get()},
                    {DNNL_ARG_WEIGHTS, b.get()},
                    {DNNL_ARG_DST, c.get()},
                    {DNNL_ARG_SCRATCHPAD, scratch.get()},
                    {DNNL_ARG_BIAS, bias.get()}}}) {}

  int count() const { return bias == nullptr ? 4 : 5; }

  Memory a, b, c, scratch, bias;
  std::array<dnnl_exec_arg_t, 5> arguments;
};

Product::~Product() {
  for (std::atomic<Operands*>& slot : free_operands_) delete slot.load();
}

std::unique_ptr<Product::Operands> Product::take_operands() const {
  for (std::atomic<Operands*>& slot : free_operands_) {
    if (slot.load(std::memory_order_relaxed) == nullptr) continue;
    if (Operands* free = slot.exchange(nullptr, std::memory_order_acquire))
      return std::unique_ptr<Operands>(free);
  }
  return std::make_unique<Operands>(*this);
}

void Product::give_back(std::unique_ptr<Operands> operands) const {
  for (std::atomic<Operands*>& slot : free_operands_) {
    Operands* expected = nullptr;
    if (slot.compare_exchange_strong(expected, operands.get(), std::memory_order_release,
                                     std::memory_order_relaxed)) {
      operands.release();
      return;
    }
  }
}

void Product::execute(const void* a, const void* b, const float* bias, float* c,
                      void* scratch) const {
  std::unique_ptr<Operands> operands = take_operands();
  const auto point = [](const Operands::Memory& memory, const void* data) {
    check(dnnl_memory_set_data_handle(memory.get(), const_cast<void*>(data)),
          "memory_set_data_handle");
  };
  point(operands->a, a);
  point(operands->b, b);
  point(operands->c, c);
  point(operands->scratch, scratch);
  if (bias_desc_ != nullptr) point(operands->bias, bias);
  check(dnnl_primitive_execute(primitive_.get(), stream(), operands->count(),
                               operands->arguments.data()),
        "matmul");
  give_back(std::move(operands));
}

std::shared_ptr<const Product> Products::find(const ProductShape& shape) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto place = places_.find(shape);
  if (place != places_.end()) {
    recent_.splice(recent_.begin(), recent_, place->second);
    return recent_.front().second;
  }
  recent_.emplace_front(shape, std::make_shared<const Product>(shape));
  try {
    places_.emplace(shape, recent_.begin());
  } catch (...) {
    recent_.pop_front();
    throw;
  }
  if (recent_.size() > kCapacity) {
    places_.erase(recent_.back().first);
    recent_.pop_back();
  }
  return recent_.front().second;
}

size_t Products::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return recent_.size();
}

Repacking::Repacking(int64_t depth, int64_t columns, DType dtype, int64_t depth_stride,
                     int64_t column_stride)
    : plain_desc_(matrix(depth, columns, dnnl_f32, depth_stride, column_stride)),
      packed_desc_(packed_layout(depth, columns, dtype)),
      packed_bytes_(static_cast<int64_t>(dnnl_memory_desc_get_size(packed_desc_.get()))) {
  const SerialOpenMp serial;
  const auto reordering = [](const MemoryDesc& from, const MemoryDesc& to) {
    dnnl_primitive_desc_t raw = nullptr;
    check(
        dnnl_reorder_primitive_desc_create(&raw, from.get(), engine(), to.get(), engine(), nullptr),
        "reorder_primitive_desc_create");
    return make(PrimitiveDesc(raw));
  };
  pack_ = reordering(plain_desc_, packed_desc_);
  unpack_ = reordering(packed_desc_, plain_desc_);
}

void Repacking::pack(const float* plain, void* packed) const {
  reorder(pack_.get(), plain_desc_.get(), plain, packed_desc_.get(), packed);
}

void Repacking::unpack(const void* packed, float* plain) const {
  reorder(unpack_.get(), packed_desc_.get(), packed, plain_desc_.get(), plain);
}

std::shared_ptr<const Repacking> Repackings::find(int64_t depth, int64_t columns, DType dtype,
                                                  int64_t depth_stride, int64_t column_stride) {
  std::lock_guard<std::mutex> lock(mutex_);
  const std::array<int64_t, 5> shape = {depth, columns, dtype, depth_stride, column_stride};
  const auto place = known_.find(shape);
  std::shared_ptr<const Repacking> found = place == known_.end() ? nullptr : place->second.lock();
  if (found != nullptr) return found;
  for (auto it = known_.begin(); it != known_.end();)
    it = it->second.expired() ? known_.erase(it) : std::next(it);
  found = std::make_shared<const Repacking>(depth, columns, dtype, depth_stride, column_stride);
  known_.emplace(shape, found);
  return found;
}

void limit_onednn(Isa isa) {
  // Fails once oneDNN is in use, which is the second call in a process: the first one stands.
  if (isa == Isa::kBaseline) dnnl_set_max_cpu_isa(dnnl_cpu_isa_sse41);
  if (isa == Isa::kAvx2) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
  if (isa == Isa::kAvx512) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_fp16);
}

std::string onednn_description() {
  const dnnl_version_t* version = dnnl_version();
  const char* isa = "baseline";
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
      isa = "sse4.1";
      break;
    case dnnl_cpu_isa_avx:
      isa = "avx";
      break;
    case dnnl_cpu_isa_avx2:
      isa = "avx2";
      break;
    case dnnl_cpu_isa_avx2_vnni:
      isa = "avx2_vnni";
      break;
    case dnnl_cpu_isa_avx2_vnni_2:
      isa = "avx2_vnni_2";
      break;
    case dnnl_cpu_isa_avx512_core:
      isa = "avx512_core";
      break;
    case dnnl_cpu_isa_avx512_core_vnni:
      isa = "avx512_core_vnni";
      break;
    case dnnl_cpu_isa_avx512_core_bf16:
      isa = "avx512_core_bf16";
      break;
    case dnnl_cpu_isa_avx512_core_fp16:
      isa = "avx512_core_fp16";
      break;
    case dnnl_cpu_isa_avx512_core_amx:
      isa = "avx512_core_amx";
      break;
    case dnnl_cpu_isa_avx512_core_amx_fp16:
      isa = "avx512_core_amx_fp16";
      break;
    default:
      break;
  }
  return text("oneDNN ", version->major, ".", version->minor, ".", version->patch, ", ", isa);
}

bool onednn_has_bfloat16() {
  return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) ==
         dnnl_cpu_isa_avx512_core_bf16;
}

}  // namespace bertology::cpu
