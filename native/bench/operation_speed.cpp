// Times operations in BERT-base's shape against the machine's own limits, measured in turn.
//
//   bertology_operation_speed [--threads N] [--dtype TYPE] [--examples N] [--length N]
//                             [--rounds N] [OPERATION...]
//
// prints results as bertology-benchmarks writes and compares them: the part of what the nearer
// limit allows, that of matrix products or that of copies. An operation that moves little and
// computes little can be above 1: its operands are in the caches, which copies do not use.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "api/devices.h"
#include "shape.h"

namespace bertology {
namespace {

constexpr double kSecondsOfAPeak = 0.1;
constexpr double kSecondsOfARound = 0.05;

struct Options {
  int32_t threads = 0;
  DType dtype = BERTOLOGY_FLOAT32;
  int32_t examples = 64;
  int32_t length = 50;
  int rounds = 7;
  std::vector<int32_t> operations;
};

int64_t count(const std::string& option, const std::string& text) {
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  check_argument(!text.empty() && *end == '\0' && value > 0, option, " is ", text,
                 ", expected 1 or more");
  return value;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) != 0) {
      options.operations.push_back(operation_of(word));
      continue;
    }
    check_argument(i + 1 < argc, word, " needs a value");
    const std::string value = argv[++i];
    if (word == "--threads") {
      options.threads = static_cast<int32_t>(count(word, value));
    } else if (word == "--dtype") {
      options.dtype = dtype_of(value);
    } else if (word == "--examples") {
      options.examples = static_cast<int32_t>(count(word, value));
    } else if (word == "--length") {
      options.length = static_cast<int32_t>(count(word, value));
    } else if (word == "--rounds") {
      options.rounds = static_cast<int>(count(word, value));
    } else {
      fail(BERTOLOGY_INVALID_ARGUMENT, "unknown option ", word);
    }
  }
  if (options.operations.empty()) {
    for (int32_t i = 0; i < BERTOLOGY_OPERATION_COUNT; ++i) options.operations.push_back(i);
  }
  return options;
}

double seconds_of(Operation& operation) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  int64_t runs = 0;
  double elapsed = 0;
  do {
    operation.queue();
    operation.stream().synchronize();
    ++runs;
    elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  } while (elapsed < kSecondsOfARound);
  return elapsed / static_cast<double>(runs);
}

void print_numbers(const char* name, const std::vector<double>& values) {
  std::printf("\"%s\": [", name);
  for (size_t i = 0; i < values.size(); ++i) std::printf("%s%.9g", i == 0 ? "" : ", ", values[i]);
  std::printf("]");
}

void measure(const std::shared_ptr<Backend>& backend, const Options& options, int32_t number) {
  bertology_config config = bert_base();
  config.dtype = options.dtype;
  Operation operation(backend, number, Config(config), options.examples, options.length);
  std::vector<double> shares, seconds;
  for (int round = -1; round < options.rounds; ++round) {
    const double products = backend->matrix_peak(options.dtype, kSecondsOfAPeak);
    const double copies = copy_peak(*backend, kSecondsOfAPeak);
    const double elapsed = seconds_of(operation);
    const double least = std::max(static_cast<double>(operation.least_flops()) / products,
                                  static_cast<double>(operation.least_bytes()) / copies);
    if (round >= 0) {
      shares.push_back(least / elapsed);
      seconds.push_back(elapsed);
    }
  }
  std::printf("    {\"name\": \"operation %s [dtype=%s,examples=%lld,length=%lld]\", ",
              operation_name(number), name_of(options.dtype),
              static_cast<long long>(options.examples), static_cast<long long>(options.length));
  std::printf("\"measure\": \"SHARE_OF_BOUND\", ");
  print_numbers("values", shares);
  std::printf(", ");
  print_numbers("seconds", seconds);
  std::printf("}");
  std::fflush(stdout);
}

void print_machine(const std::string& description) {
  std::printf("  \"machine\": [\"");
  for (const char c : description) {
    if (c == '\n') {
      std::printf("\", \"");
    } else if (c == '"' || c == '\\') {
      std::printf("\\%c", c);
    } else {
      std::printf("%c", c);
    }
  }
  std::printf("\"],\n");
}

int run(int argc, char** argv) {
  const Options options = parse(argc, argv);
  const std::shared_ptr<Backend> backend = open_device("cpu", options.threads);
  check_argument(backend->supports(options.dtype), "this processor does not multiply ",
                 name_of(options.dtype));
  std::printf("{\n  \"format\": \"bertology4j-benchmarks 1\",\n");
  print_machine(backend->description());
  std::printf("  \"rows\": [],\n  \"benchmarks\": [\n");
  for (size_t i = 0; i < options.operations.size(); ++i) {
    measure(backend, options, options.operations[i]);
    std::printf("%s\n", i + 1 < options.operations.size() ? "," : "");
  }
  std::printf("  ]\n}\n");
  return 0;
}

}  // namespace
}  // namespace bertology

int main(int argc, char** argv) {
  try {
    return bertology::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
