// What a model does when calls of the CUDA runtime fail: every failure has a type and a text, the
// model works afterwards or can be closed, and nothing leaks.
#include <dlfcn.h>

#include <functional>
#include <optional>
#include <thread>

#include "api/handles.h"
#include "base/error.h"
#include "cuda/plugin.h"
#include "cuda/runtime_counts.h"
#include "ops/rows.h"
#include "tiny_model.h"

namespace bertology::testing {
namespace {

// Of the runtime's cudaError_t.
constexpr int kInvalidValue = 1;
constexpr int kMemoryAllocation = 2;
constexpr int kInsufficientDriver = 35;
constexpr int kNoDevice = 100;
constexpr int kUnsupportedPtxVersion = 222;
constexpr int kOperatingSystem = 304;
constexpr int kAlreadyRegistered = 712;
constexpr int kLaunchFailure = 719;
constexpr int kNotPermitted = 800;
constexpr int kNotSupported = 801;

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

/// What a run gives, capture by capture.
using Results = std::vector<std::vector<float>>;

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
  std::unique_ptr<bertology_device> open(int32_t ordinal = 0) {
    return std::make_unique<bertology_device>(bertology_device{plugin_->open(ordinal)});
  }
  static bool with_cublas(const bertology_device& device) {
    return contains(device.backend->description(), "products: cuBLAS");
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
  /// makes the calls and returns disarm(). Says how many there were.
  int each_failure(const char* call, int code, const std::function<bool(int)>& body) {
    constexpr int kMany = 2000;
    int n = 0;
    for (bool more = true; more && n < kMany && !HasFailure();) {
      ++n;
      SCOPED_TRACE(text("call ", n, " of ", call, " fails with ", code));
      more = body(n);
    }
    EXPECT_LT(n, kMany) << call;
    return n - 1;
  }

  /// A life of a model, which gives the results of all heads and of those left by pruning.
  using Life = std::function<void(Results& whole, Results& pruned)>;
  /// Makes each of these calls fail: all of them come, and nothing leaks.
  void calls_may_fail(const std::vector<const char*>& calls, const Life& life);

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

/// Calls that take, start or wait for something, by the name that the injection knows.
const std::vector<const char*> kCalls = {
    "cudaGetDeviceProperties", "cudaSetDevice",   "cudaStreamCreate",
    "cudaEventCreate",         "cudaMalloc",      "cudaHostAlloc",
    "cudaHostRegister",        "cudaMemcpyAsync", "cudaMemsetAsync",
    "cudaLaunchKernel",        "cudaEventRecord", "cudaEventSynchronize",
    "cudaStreamSynchronize",
};
/// Those of them that only half precision makes, and large blocks.
const std::vector<const char*> kCallsOfHalves = {"cudaMemcpy", "cudaFuncSetAttribute"};
/// Those that differ with cuBLAS.
const std::vector<const char*> kCallsOfCublas = {"cublasCreate", "cublasGemmEx", "cudaMalloc",
                                                 "cudaLaunchKernel"};
/// What is tested where each call of a run is to fail.
const std::vector<const char*>& calls_of_runs(bool with_cublas) {
  return with_cublas ? kCallsOfCublas : kCalls;
}
/// Calls that give something back: there is nobody to report their failure to.
const char* const kReleases[] = {"cudaFree", "cudaFreeHost", "cudaHostUnregister",
                                 "cudaStreamDestroy", "cudaEventDestroy"};

/// Whether one code after the other would take long.
bool frequent(const std::string& call) { return call == "cudaSetDevice"; }

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
  opening("cudaGetDeviceCount", kInvalidValue, "invalid argument");
  opening("cudaGetDeviceProperties", kInvalidValue, "cudaGetDeviceProperties");
  opening("cudaSetDevice", kMemoryAllocation, "cudaSetDevice");
  std::string why;
  arm(1, kNoDevice, "cudaGetDeviceCount");
  EXPECT_EQ(plugin_->device_count(&why), 0);
  EXPECT_TRUE(contains(why, "no CUDA-capable device")) << why;
}

void CudaInjectionTest::calls_may_fail(const std::vector<const char*>& calls, const Life& life) {
  Results expected, expected_pruned;
  life(expected, expected_pruned);
  const size_t free = free_memory();
  const int64_t live = runtime_counts().live;
  const int64_t handles = runtime_counts().handles;
  for (const char* call : calls) {
    for (const int code : {kInvalidValue, kMemoryAllocation, kLaunchFailure}) {
      if (code == kMemoryAllocation && frequent(call)) continue;
      const int came = each_failure(call, code, [&](int n) {
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
        EXPECT_EQ(runtime_counts().handles, handles) << "streams, events or cuBLAS leak";
        return failed;
      });
      ASSERT_GT(came, 0) << call << " is never called";
    }
  }
}

TEST_F(CudaInjectionTest, EveryCallOfAModelsLifeMayFail) {
  const Life life = [&](Results& results, Results& pruned) {
    const auto device = open();
    TinyModel model(small_config(), true, device.get());
    results = results_of(model, device.get());
    model.prune(kPruned);
    pruned = results_of(model, device.get());
    model.restore(kPruned);
    if (results_of(model, device.get()) != results) fail(BERTOLOGY_INTERNAL_ERROR, "other results");
  };
  const bool cublas = with_cublas(*open());
  calls_may_fail(calls_of_runs(cublas), life);
  if (cublas) return;
  Results expected, expected_pruned;
  life(expected, expected_pruned);
  for (const char* call : kReleases) {
    const int came = each_failure(call, kInvalidValue, [&](int n) {
      Results results, pruned;
      arm(n, kInvalidValue, call);
      const auto failure = failure_of([&] { life(results, pruned); });
      const bool failed = disarm();
      EXPECT_EQ(failure, std::nullopt);
      EXPECT_EQ(results, expected);
      EXPECT_EQ(pruned, expected_pruned);
      return failed;
    });
    ASSERT_GT(came, 0) << call << " is never called";
  }
}

// A text so long that its attention needs more shared memory than blocks have without asking.
TEST_F(CudaInjectionTest, EveryCallOfALifeInHalfPrecisionMayFail) {
  bertology_config config = small_config();
  config.dtype = BERTOLOGY_FLOAT16;
  config.hidden_size = 128;
  config.max_position_embeddings = 300;
  calls_may_fail(kCallsOfHalves, [&](Results& results, Results& pruned) {
    const auto device = open();
    TinyModel model(config, true, device.get());
    const auto run = [&] {
      TinyRun activations(device.get());
      activations.batch(TinyBatch(config, {300})).capture({BERTOLOGY_HEAD_GRADIENTS}).on(model);
      return Results{activations.get(BERTOLOGY_HEAD_GRADIENTS)};
    };
    results = run();
    model.prune(kPruned);
    pruned = run();
  });
}

TEST_F(CudaInjectionTest, MemoryThatTheSystemDoesNotPinIsCopiedByADetour) {
  const auto device = open();
  TinyModel model(small_config(), true, device.get());
  const Results expected = results_of(model, device.get());
  for (const int code : {kOperatingSystem, kAlreadyRegistered, kNotPermitted, kNotSupported}) {
    arm(1, code, "cudaHostRegister");
    EXPECT_EQ(results_of(model, device.get()), expected) << code;
    EXPECT_TRUE(disarm()) << code;
  }
}

TEST_F(CudaInjectionTest, ModelWorksAfterARunThatFailed) {
  const auto device = open();
  TinyModel model(small_config(), true, device.get());
  const Results expected = results_of(model, device.get());
  for (const char* call : calls_of_runs(with_cublas(*device))) {
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
  for (const char* call : calls_of_runs(with_cublas(*device))) {
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
  if (!with_cublas(*device)) {
    fails_with(
        2, "cudaMalloc",
        {"the activations of a pass: ", " bytes of memory of device cuda:0, which has ", " free"});
  }
  fails_with(1, "cudaHostAlloc",
             {"copies from and to the device: ", " bytes of pinned host memory; ", " can take "});
}

TEST_F(CudaInjectionTest, ShortageIsNamedEvenIfNobodyKnowsWhatIsFree) {
  const auto device = open();
  arm(1, kInvalidValue, "cudaMemGetInfo");
  const auto failure =
      failure_of([&] { device->backend->allocate(int64_t{1} << 50, "a parameter"); });
  EXPECT_TRUE(disarm());
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->status, BERTOLOGY_OUT_OF_MEMORY);
  EXPECT_EQ(failure->text, "a parameter: 1125899906842624 bytes of memory of device cuda:0");
}

TEST_F(CudaInjectionTest, LaunchNamesItsOwnKernelOnlyIfThatOneIsRefused) {
  const auto failure_of_third_launch = [&](int code) {
    const auto device = open();
    TinyModel model(small_config(), true, device.get());
    arm(3, code, "cudaLaunchKernel");
    const auto failure = failure_of([&] { results_of(model, device.get()); });
    EXPECT_TRUE(disarm());
    return failure.value_or(Failure{BERTOLOGY_OK, ""}).text;
  };
  const std::string refused = failure_of_third_launch(kInvalidValue);
  EXPECT_EQ(refused.rfind("device cuda:0: kernel ", 0), 0u) << refused;
  EXPECT_FALSE(contains(refused, "behind")) << refused;
  const std::string noticed = failure_of_third_launch(kLaunchFailure);
  EXPECT_EQ(noticed.rfind("device cuda:0: the launch of kernel ", 0), 0u) << noticed;
  EXPECT_TRUE(contains(noticed, "], behind kernel ")) << noticed;
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

TEST_F(CudaInjectionTest, VersionsAreNamedThatDoNotFit) {
  const auto why_not = [&](int driver, int code) {
    const DriverVersion version(driver);
    std::string why;
    arm(1, code, "cudaGetDeviceCount");
    EXPECT_EQ(plugin_->device_count(&why), 0);
    EXPECT_TRUE(disarm());
    return why;
  };
  const std::string old = why_not(12080, kInsufficientDriver);
  EXPECT_TRUE(contains(old, ": the driver is for CUDA 12.8; one for CUDA 13.0 or newer is needed"))
      << old;
  const std::string none = "no CUDA driver was found; one for CUDA 13.0 or newer is needed";
  EXPECT_EQ(why_not(0, kInsufficientDriver), none);
  EXPECT_EQ(why_not(0, kNoDevice), none);

  const auto device = open();
  TinyModel model(small_config(), true, device.get());
  const DriverVersion version(12080);
  arm(1, kUnsupportedPtxVersion, "cudaLaunchKernel");
  const auto failure = failure_of([&] { results_of(model, device.get()); });
  EXPECT_TRUE(disarm());
  ASSERT_TRUE(failure.has_value());
  expect_typed(*failure, kUnsupportedPtxVersion);
  EXPECT_TRUE(contains(failure->text, ": the driver is for CUDA 12.8; one for CUDA 13.") &&
              contains(failure->text, " or newer is needed"))
      << *failure;
}

/// Needs a process of its own, which has no device afterwards, and a runtime that tells of a fault
/// in the next call, as a fast device does.
class CudaFaultTest : public CudaFailureTest {
 protected:
  void SetUp() override {
    CudaFailureTest::SetUp();
    if (std::getenv("CUDA_EMU_DEFER_ERRORS") == nullptr)
      GTEST_SKIP() << "this is for a stand-in for the CUDA runtime that tells of faults later";
  }
};

TEST_F(CudaFaultTest, KernelBeforeTheLaunchThatNoticesIsNamed) {
  constexpr int64_t kRows = 3, kWidth = 8, kBytes = kRows * kWidth * 4;
  const auto device = open();
  Backend& backend = *device->backend;
  const auto index = backend.allocate(kRows * 8, "rows");
  const auto output = backend.allocate(kBytes, "rows");
  const std::vector<int64_t> rows(kRows, 0);
  const std::vector<float> on_the_host(kWidth);
  backend.upload(index->data(), rows.data(), kRows * 8);
  const std::shared_ptr<Stream> stream = backend.stream();
  GatherRows faulty;
  faulty.rows = kRows;
  faulty.width = kWidth;
  faulty.index = static_cast<const int64_t*>(index->data());
  faulty.input = on_the_host.data();
  faulty.output = static_cast<float*>(output->data());
  gather_rows(*stream, faulty);
  BroadcastRow innocent;
  innocent.rows = kRows - 1;
  innocent.width = kWidth;
  innocent.row = innocent.output = static_cast<float*>(output->data());
  const auto failure = failure_of([&] { broadcast_row(*stream, innocent); });
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->status, BERTOLOGY_DEVICE_ERROR);
  EXPECT_EQ(failure->text,
            "device cuda:0: the launch of kernel broadcast_row [2, 8], behind kernel gather_rows "
            "[3, 8]: an illegal memory access was encountered (cudaErrorIllegalAddress)");
  const auto later = failure_of([&] { backend.allocate(kBytes, "rows"); });
  ASSERT_TRUE(later.has_value());
  EXPECT_TRUE(contains(later->text, "the device was lost before: " + failure->text)) << *later;
}

/// Several devices in one process, which are one in truth.
class CudaDevicesTest : public CudaFailureTest {
 protected:
  /// Whatever a model does, on this device, and with the thread's context `current` all the time.
  Results life(const SeveralDevices& devices, int32_t ordinal, DType dtype, int current) {
    bertology_config config = small_config();
    config.dtype = dtype;
    const auto device = open(ordinal);
    EXPECT_EQ(devices.current(), current);
    TinyModel model(config, true, device.get());
    EXPECT_EQ(devices.current(), current);
    const Results results = results_of(model, device.get());
    EXPECT_EQ(devices.current(), current);
    EXPECT_TRUE(failure_of([&] { device->backend->allocate(int64_t{1} << 50, "a parameter"); }));
    EXPECT_EQ(devices.current(), current);
    model.prune(kPruned);
    EXPECT_EQ(devices.current(), current);
    model.restore(kPruned);
    EXPECT_EQ(results_of(model, device.get()), results);
    EXPECT_EQ(devices.current(), current);
    return results;
  }
};

TEST_F(CudaDevicesTest, OneThatIsNotTheFirstStartsNoOther) {
  SeveralDevices devices(3);
  for (const DType dtype : {BERTOLOGY_FLOAT32, BERTOLOGY_FLOAT16}) {
    life(devices, 1, dtype, SeveralDevices::kNone);
    EXPECT_EQ(devices.current(), SeveralDevices::kNone);
  }
  EXPECT_GT(devices.launches(1), 0);
  EXPECT_EQ(devices.astray(), 0);
  for (const int other : {0, 2}) EXPECT_FALSE(devices.started(other)) << other;
}

TEST_F(CudaDevicesTest, ThreadKeepsTheContextThatItHad) {
  SeveralDevices devices(3);
  devices.make_current(2);
  life(devices, 1, BERTOLOGY_FLOAT32, 2);
  EXPECT_EQ(devices.current(), 2);
  EXPECT_EQ(devices.astray(), 0);
  EXPECT_EQ(devices.launches(2), 0);
}

TEST_F(CudaDevicesTest, ModelsOnTwoDoNotMix) {
  SeveralDevices devices(2);
  Results expected;
  {
    const auto first = open(0), second = open(1);
    auto on_first = std::make_unique<TinyModel>(small_config(), true, first.get());
    TinyModel on_second(small_config(), true, second.get());
    TinyRun kept(second.get());
    kept.batch(TinyBatch(on_second.config, {5, 3})).on(on_second);
    for (int i = 0; i < 2; ++i) {
      expected = results_of(*on_first, first.get());
      EXPECT_EQ(results_of(on_second, second.get()), expected);
      // A thread of somebody else's, which has chosen another device.
      std::thread([&] {
        devices.make_current(i);
        EXPECT_EQ(results_of(on_second, second.get()), expected);
        EXPECT_EQ(devices.current(), i);
      }).join();
      on_second.prune(kPruned);
      on_second.restore(kPruned);
    }
    devices.make_current(1);
    on_first.reset();
    devices.make_current(0);
  }
  for (const int32_t ordinal : {0, 1}) EXPECT_GT(devices.launches(ordinal), 0) << ordinal;
  EXPECT_EQ(devices.astray(), 0);
}

}  // namespace
}  // namespace bertology::testing
