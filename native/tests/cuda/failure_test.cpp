// What a model does when calls of the CUDA runtime fail: every failure has a type and a text, the
// model works afterwards or can be closed, and nothing leaks.
#include <dlfcn.h>

#include <functional>
#include <optional>

#include "api/handles.h"
#include "base/error.h"
#include "cuda/plugin.h"
#include "cuda/runtime_counts.h"
#include "tiny_model.h"

namespace bertology::testing {
namespace {

// Of the runtime's cudaError_t.
constexpr int kInvalidValue = 1;
constexpr int kMemoryAllocation = 2;
constexpr int kInsufficientDriver = 35;
constexpr int kNoDevice = 100;
constexpr int kLaunchFailure = 719;

/// The C interface's error of a failed call, or what a backend threw.
struct Failure {
  int status;
  std::string text;

  bool operator==(const Failure& other) const {
    return status == other.status && text == other.text;
  }
};

std::ostream& operator<<(std::ostream& out, const Failure& failure) {
  return out << failure.status << ": " << failure.text;
}

/// What was thrown by `body`, if anything.
std::optional<Failure> failure_of(const std::function<void()>& body) {
  try {
    body();
    return std::nullopt;
  } catch (const ApiError& error) {
    return Failure{error.status, error.what()};
  } catch (const Error& error) {
    return Failure{error.status(), error.what()};
  }
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

class CudaFailureTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (on_cpu()) GTEST_SKIP() << "the device under test is not a CUDA device";
    const char* path = std::getenv("BERTOLOGY_CUDA_LIBRARY");
    library_ = dlopen(path != nullptr ? path : "libbertology_cuda.so", RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library_, nullptr) << dlerror();
    const auto entry = reinterpret_cast<decltype(&bertology_cuda_plugin)>(
        dlsym(library_, "bertology_cuda_plugin"));
    ASSERT_NE(entry, nullptr);
    plugin_ = entry();
  }
  void TearDown() override {
    if (library_ != nullptr) dlclose(library_);
  }

  /// A device of its own, that is: what happens to it happens to no other test.
  std::unique_ptr<bertology_device> open() {
    return std::make_unique<bertology_device>(bertology_device{plugin_->open(0)});
  }

  void* library_ = nullptr;
  const cuda::Plugin* plugin_ = nullptr;
};

/// Tests that make calls of the runtime fail.
class CudaInjectionTest : public CudaFailureTest {
 protected:
  void SetUp() override {
    CudaFailureTest::SetUp();
    if (plugin_ == nullptr) return;
    find(fail_after_, "cudaEmuFailAfter");
    find(enter_, "cudaEmuEnter");
    find(memory_info_, "cudaMemGetInfo");
    if (fail_after_ == nullptr || enter_ == nullptr || memory_info_ == nullptr)
      GTEST_SKIP() << "this needs a CUDA runtime with fault injection";
  }
  void TearDown() override {
    if (fail_after_ != nullptr) disarm();
    CudaFailureTest::TearDown();
  }

  /// The n-th call of this name from now on fails with this code, once.
  void arm(int n, int code, const char* call) {
    call_ = call;
    armed_ = n;
    fail_after_(n, code, call);
  }
  /// Whether the failure had come.
  bool disarm() {
    bool waits = false;
    for (int i = 0; i < armed_ && !waits; ++i) waits = enter_(call_) != 0;
    armed_ = 0;
    fail_after_(0, 0, nullptr);
    return !waits;
  }

  size_t free_memory() const {
    size_t free = 0, total = 0;
    EXPECT_EQ(memory_info_(&free, &total), 0);
    return free;
  }

  /// For n from 1 until there are no more calls of this name: body(n), which arms the n-th to fail,
  /// makes the calls and returns disarm().
  void each_failure(const char* call, int code, const std::function<bool(int)>& body) {
    constexpr int kMany = 2000;
    int n = 0;
    for (bool more = true; more && n < kMany && !HasFailure();) {
      ++n;
      SCOPED_TRACE(text("call ", n, " of ", call, " fails with ", code));
      more = body(n);
    }
    EXPECT_LT(n, kMany) << call;
  }

 private:
  template <class Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
  }

  void (*fail_after_)(int, int, const char*) = nullptr;
  int (*enter_)(const char*) = nullptr;
  int (*memory_info_)(size_t*, size_t*) = nullptr;
  const char* call_ = nullptr;
  int armed_ = 0;
};

/// Calls that take, start or wait for something, by name.
const char* const kCalls[] = {"cudaGetDeviceProperties",
                              "cudaGetDevice",
                              "cudaSetDevice",
                              "cudaStreamCreateWithFlags",
                              "cudaEventCreateWithFlags",
                              "cudaMalloc",
                              "cudaHostAlloc",
                              "cudaHostRegister",
                              "cudaMemcpyAsync",
                              "cudaMemcpy",
                              "cudaMemsetAsync",
                              "cudaFuncSetAttribute",
                              "cudaLaunchKernel",
                              "cudaEventRecord",
                              "cudaEventSynchronize",
                              "cudaStreamSynchronize",
                              "cublasCreate",
                              "cublasSgemm",
                              "cublasGemmEx"};
/// Calls that give something back: there is nobody to report their failure to.
const char* const kReleases[] = {"cudaFree", "cudaFreeHost", "cudaHostUnregister",
                                 "cudaStreamDestroy", "cudaEventDestroy"};

/// Whether one code after the other would take long.
bool frequent(const std::string& call) {
  return call == "cudaGetDevice" || call == "cudaSetDevice";
}

bertology_config small_config() {
  bertology_config config = tiny_config();
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.hidden_size = 64;
  config.intermediate_size = 24;
  config.vocab_size = 9;
  config.max_position_embeddings = 8;
  return config;
}

const HeadList kPruned = {{0, 1}};

/// Everything that a run of all captures gives.
using Results = std::vector<std::vector<float>>;

Results results_of(TinyModel& model, bertology_device* on) {
  const auto captures = layered_captures(model.config);
  std::vector<int32_t> kinds;
  for (const auto& capture : captures) kinds.push_back(capture.first);
  TinyRun run(on);
  run.batch(TinyBatch(model.config, {5, 3})).capture(kinds).on(model);
  Results results;
  for (const auto& [capture, layers] : captures) {
    for (int32_t l = 0; l < layers; ++l) results.push_back(run.get(capture, l));
  }
  return results;
}

void expect_typed(const Failure& failure, int code) {
  EXPECT_EQ(failure.status,
            code == kMemoryAllocation ? BERTOLOGY_OUT_OF_MEMORY : BERTOLOGY_DEVICE_ERROR)
      << failure;
  EXPECT_TRUE(contains(failure.text, "cuda:0") || contains(failure.text, "pinned host memory"))
      << failure;
}

TEST_F(CudaFailureTest, DeviceThatDoesNotExist) {
  bertology_device* opened = nullptr;
  EXPECT_EQ(bertology_device_open("cuda:999", 0, &opened), BERTOLOGY_DEVICE_ERROR);
  EXPECT_TRUE(contains(bertology_last_error(), "device cuda:999 does not exist"))
      << bertology_last_error();
  EXPECT_EQ(opened, nullptr);
}

TEST_F(CudaFailureTest, MoreMemoryThanThereIs) {
  const auto device = open();
  TinyModel model(small_config(), true, device.get());
  const Results before = results_of(model, device.get());
  const auto failure =
      failure_of([&] { device->backend->allocate(int64_t{1} << 50, "a parameter"); });
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->status, BERTOLOGY_OUT_OF_MEMORY);
  EXPECT_TRUE(contains(failure->text, "a parameter: 1125899906842624 bytes of memory of device"))
      << *failure;
  EXPECT_EQ(results_of(model, device.get()), before);
}

TEST_F(CudaInjectionTest, DevicesThatCannotBeOpened) {
  const auto opening = [&](const char* call, int code, const std::string& text) {
    arm(1, code, call);
    const auto failure = failure_of([&] { open(); });
    EXPECT_TRUE(disarm()) << call;
    ASSERT_TRUE(failure.has_value()) << call;
    expect_typed(*failure, code);
    EXPECT_TRUE(contains(failure->text, text)) << *failure;
  };
  opening("cudaGetDeviceCount", kNoDevice, "no CUDA-capable device");
  opening("cudaGetDeviceCount", kInsufficientDriver, "the driver is for CUDA ");
  opening("cudaGetDeviceCount", kInsufficientDriver, " or newer is needed");
  opening("cudaGetDeviceCount", kInvalidValue, "invalid argument");
  opening("cudaGetDeviceProperties", kInvalidValue, "cudaGetDeviceProperties");
  opening("cudaSetDevice", kMemoryAllocation, "cudaSetDevice");
  std::string why;
  arm(1, kNoDevice, "cudaGetDeviceCount");
  EXPECT_EQ(plugin_->device_count(&why), 0);
  EXPECT_TRUE(contains(why, "no CUDA-capable device")) << why;
}

TEST_F(CudaInjectionTest, EveryCallOfAModelsLifeMayFail) {
  Results expected, expected_pruned;
  const auto life = [&](Results& results, Results& pruned) {
    const auto device = open();
    TinyModel model(small_config(), true, device.get());
    results = results_of(model, device.get());
    model.prune(kPruned);
    pruned = results_of(model, device.get());
    model.restore(kPruned);
    if (results_of(model, device.get()) != results) fail(BERTOLOGY_INTERNAL_ERROR, "other results");
  };
  life(expected, expected_pruned);
  const size_t free = free_memory();
  const int64_t live = runtime_counts().live;
  for (const char* call : kCalls) {
    for (const int code : {kInvalidValue, kMemoryAllocation, kLaunchFailure}) {
      if (code == kMemoryAllocation && frequent(call)) continue;
      each_failure(call, code, [&](int n) {
        Results results, pruned;
        arm(n, code, call);
        const auto failure = failure_of([&] { life(results, pruned); });
        const bool failed = disarm();
        if (failure.has_value()) {
          EXPECT_TRUE(failed) << *failure;
          expect_typed(*failure, code);
        } else {
          // What failed was not needed, and nothing is wrong.
          EXPECT_EQ(results, expected);
          EXPECT_EQ(pruned, expected_pruned);
        }
        EXPECT_EQ(free_memory(), free) << "device memory leaks";
        EXPECT_EQ(runtime_counts().live, live) << "device memory or pinned memory leaks";
        return failed;
      });
    }
  }
  for (const char* call : kReleases) {
    each_failure(call, kInvalidValue, [&](int n) {
      Results results, pruned;
      arm(n, kInvalidValue, call);
      const auto failure = failure_of([&] { life(results, pruned); });
      const bool failed = disarm();
      EXPECT_EQ(failure, std::nullopt);
      EXPECT_EQ(results, expected);
      EXPECT_EQ(pruned, expected_pruned);
      return failed;
    });
  }
}

TEST_F(CudaInjectionTest, ModelWorksAfterARunThatFailed) {
  const auto device = open();
  TinyModel model(small_config(), true, device.get());
  const Results expected = results_of(model, device.get());
  for (const char* call : kCalls) {
    for (const int code : {kInvalidValue, kMemoryAllocation}) {
      each_failure(call, code, [&](int n) {
        Results results;
        arm(n, code, call);
        const auto failure = failure_of([&] { results = results_of(model, device.get()); });
        const bool failed = disarm();
        if (failure.has_value()) {
          EXPECT_TRUE(failed) << *failure;
          expect_typed(*failure, code);
        } else {
          EXPECT_EQ(results, expected);
        }
        EXPECT_EQ(results_of(model, device.get()), expected);
        return failed;
      });
    }
  }
}

TEST_F(CudaInjectionTest, RunThatFailsAddsNothingToTheSums) {
  const auto device = open();
  TinyModel model(small_config(), true, device.get());
  const TinyBatch batch(model.config, {5, 3});
  bertology_accumulator* accumulator = nullptr;
  check(bertology_accumulator_create(device.get(), model.config.num_hidden_layers,
                                     model.config.num_attention_heads, &accumulator));
  const auto run = [&] {
    TinyRun adding(device.get());
    adding.batch(batch);
    check(bertology_activations_set_accumulator(adding.handle, accumulator));
    adding.on(model);
  };
  const auto sums = [&] {
    std::vector<double> values(
        static_cast<size_t>(model.config.num_hidden_layers * model.config.num_attention_heads *
                            BERTOLOGY_HEAD_SUM_COUNT));
    int64_t examples = 0, tokens = 0;
    check(bertology_accumulator_read(accumulator, values.data(),
                                     static_cast<int64_t>(values.size()), &examples, &tokens));
    values.push_back(static_cast<double>(examples));
    values.push_back(static_cast<double>(tokens));
    return values;
  };
  const std::vector<double> nothing = sums();
  run();
  const std::vector<double> once = sums();
  EXPECT_EQ(once[once.size() - 2], 2);
  for (const char* call : kCalls) {
    each_failure(call, kInvalidValue, [&](int n) {
      check(bertology_accumulator_reset(accumulator));
      arm(n, kInvalidValue, call);
      const auto failure = failure_of(run);
      const bool failed = disarm();
      EXPECT_EQ(sums(), failure.has_value() ? nothing : once);
      if (failure.has_value()) run();
      EXPECT_EQ(sums(), once);
      return failed;
    });
  }
  bertology_accumulator_free(accumulator);
}

TEST_F(CudaInjectionTest, ParameterThatFailedToLoadCanBeLoadedAgain) {
  const auto device = open();
  Results expected;
  {
    TinyModel model(small_config(), true, device.get());
    expected = results_of(model, device.get());
  }
  for (const char* call : {"cudaMalloc", "cudaMemcpyAsync", "cudaMemcpy", "cudaSetDevice"}) {
    each_failure(call, kInvalidValue, [&](int n) {
      TinyModel model(small_config(), false, device.get());
      std::vector<std::string> again;
      arm(n, kInvalidValue, call);
      for (const auto& [name, parameter] : model.parameters) {
        if (failure_of([&] { model.set(name, tensor_of(parameter.values, parameter.shape)); }))
          again.push_back(name);
      }
      const bool failed = disarm();
      EXPECT_LE(again.size(), failed ? 1u : 0u);
      for (const std::string& name : again) {
        const auto failure = failure_of([&] { results_of(model, device.get()); });
        const bool used = name.rfind("masked_lm", 0) != 0;
        EXPECT_EQ(failure.has_value(), used) << name;
        if (failure.has_value()) {
          EXPECT_EQ(failure->status, BERTOLOGY_UNSUPPORTED) << *failure;
          EXPECT_TRUE(contains(failure->text, "lacks " + name)) << *failure;
        }
        const TinyModel::Parameter& parameter = model.parameters.at(name);
        model.set(name, tensor_of(parameter.values, parameter.shape));
      }
      EXPECT_EQ(results_of(model, device.get()), expected);
      return failed;
    });
  }
}

TEST_F(CudaInjectionTest, PruningThatFailsChangesNothingOrSaysSo) {
  const auto device = open();
  Results expected, expected_pruned;
  {
    TinyModel model(small_config(), true, device.get());
    expected = results_of(model, device.get());
    model.prune(kPruned);
    expected_pruned = results_of(model, device.get());
  }
  for (const char* call : kCalls) {
    for (const int code : {kInvalidValue, kMemoryAllocation}) {
      for (const bool restores : {false, true}) {
        each_failure(call, code, [&](int n) {
          TinyModel model(small_config(), true, device.get());
          if (restores) model.prune(kPruned);
          arm(n, code, call);
          const auto failure =
              failure_of([&] { restores ? model.restore(kPruned) : model.prune(kPruned); });
          const bool failed = disarm();
          if (failure.has_value()) expect_typed(*failure, code);
          Results after;
          const auto unusable = failure_of([&] { after = results_of(model, device.get()); });
          if (unusable.has_value()) {
            EXPECT_TRUE(failure.has_value());
            EXPECT_TRUE(contains(unusable->text, "load the model again")) << *unusable;
          } else {
            EXPECT_EQ(after, failure.has_value() == restores ? expected_pruned : expected);
          }
          return failed;
        });
      }
    }
  }
}

/// A run that needs memory of every kind: activations, scratch, what is copied from and to the
/// host, sums that outlive it.
struct DemandingRun {
  explicit DemandingRun(bertology_device* on, DType dtype)
      : config([dtype] {
          bertology_config shape = small_config();
          shape.dtype = dtype;
          return shape;
        }()),
        model(config, true, on),
        run(on) {
    check(bertology_accumulator_create(on, config.num_hidden_layers, config.num_attention_heads,
                                       &accumulator));
    run.batch(TinyBatch(config, {5, 3}), BERTOLOGY_MASKED_LM)
        .capture({BERTOLOGY_LOSS, BERTOLOGY_ATTENTIONS, BERTOLOGY_ATTENTION_GRADIENTS});
    check(bertology_activations_set_accumulator(run.handle, accumulator));
  }
  ~DemandingRun() { bertology_accumulator_free(accumulator); }

  /// The results of a run.
  Results once() {
    run.on(model);
    return {run.get(BERTOLOGY_LOSS), run.get(BERTOLOGY_ATTENTIONS),
            run.get(BERTOLOGY_ATTENTION_GRADIENTS)};
  }

  bertology_config config;
  TinyModel model;
  TinyRun run;
  bertology_accumulator* accumulator = nullptr;
};

TEST_F(CudaInjectionTest, MemoryIsTakenBeforeAnythingIsComputed) {
  for (const DType dtype : {BERTOLOGY_FLOAT32, BERTOLOGY_FLOAT16}) {
    Results expected;
    for (const char* call : {"cudaMalloc", "cudaHostAlloc", "cudaHostRegister", "cublasCreate"}) {
      each_failure(call, kMemoryAllocation, [&](int n) {
        const auto device = open();
        DemandingRun demanding(device.get(), dtype);
        const int64_t launches = runtime_counts().launches;
        arm(n, kMemoryAllocation, call);
        const auto failure = failure_of([&] { demanding.once(); });
        const bool failed = disarm();
        EXPECT_EQ(failure.has_value(), failed);
        if (failure.has_value()) {
          expect_typed(*failure, kMemoryAllocation);
          EXPECT_EQ(runtime_counts().launches, launches) << *failure;
          EXPECT_TRUE(contains(failure->text, "bytes") || call == std::string("cublasCreate"))
              << *failure;
        }
        // Model and activations can be used, and a run that is like one before takes no memory.
        const Results results = demanding.once();
        EXPECT_GT(runtime_counts().launches, launches);
        const int64_t allocations = runtime_counts().allocations;
        EXPECT_EQ(demanding.once(), results);
        EXPECT_EQ(runtime_counts().allocations, allocations);
        if (expected.empty()) expected = results;
        EXPECT_EQ(results, expected);
        return failed;
      });
    }
  }
}

TEST_F(CudaInjectionTest, ErrorsSayHowMuchMemoryIsNeededAndFree) {
  const auto device = open();
  DemandingRun demanding(device.get(), BERTOLOGY_FLOAT32);
  const auto fails_with = [&](int n, const char* call, const std::vector<const char*>& parts) {
    arm(n, kMemoryAllocation, call);
    const auto failure = failure_of([&] { demanding.once(); });
    EXPECT_TRUE(disarm());
    ASSERT_TRUE(failure.has_value());
    for (const char* part : parts) EXPECT_TRUE(contains(failure->text, part)) << *failure;
  };
  fails_with(1, "cudaMalloc", {"sums of the heads' gradients: ", " free"});
  if (device->backend->description().find("products: cuBLAS") == std::string::npos) {
    fails_with(
        2, "cudaMalloc",
        {"the activations of a pass: ", " bytes of memory of device cuda:0, which has ", " free"});
  }
  fails_with(1, "cudaHostAlloc",
             {"copies from and to the device: ", " bytes of pinned host memory; ", " can take "});
}

TEST_F(CudaInjectionTest, KernelThatFailsIsNamedAndTheDeviceIsLost) {
  const size_t free = free_memory();
  {
    const auto device = open();
    TinyModel model(small_config(), true, device.get());
    const Results expected = results_of(model, device.get());
    for (const char* call : {"cudaEventSynchronize", "cudaLaunchKernel"}) {
      const auto lost = open();
      TinyModel on_lost(small_config(), true, lost.get());
      arm(1, kLaunchFailure, call);
      const auto first = failure_of([&] { results_of(on_lost, lost.get()); });
      EXPECT_TRUE(disarm());
      ASSERT_TRUE(first.has_value());
      EXPECT_EQ(first->status, BERTOLOGY_DEVICE_ERROR);
      EXPECT_TRUE(contains(first->text, "kernel ") && contains(first->text, "[") &&
                  contains(first->text, "launch failure"))
          << *first;
      const std::vector<std::function<void()>> later = {
          [&] { results_of(on_lost, lost.get()); }, [&] { on_lost.prune(kPruned); },
          [&] { on_lost.load_all(); },
          [&] { TinyModel another(small_config(), true, lost.get()); }};
      for (const auto& call_later : later) {
        const auto failure = failure_of(call_later);
        ASSERT_TRUE(failure.has_value());
        EXPECT_EQ(failure->status, BERTOLOGY_DEVICE_ERROR) << *failure;
        EXPECT_TRUE(contains(failure->text, "the device was lost before: ")) << *failure;
        EXPECT_TRUE(contains(failure->text, "kernel ")) << *failure;
      }
    }
    EXPECT_EQ(results_of(model, device.get()), expected);
  }
  EXPECT_EQ(free_memory(), free);
}

}  // namespace
}  // namespace bertology::testing
