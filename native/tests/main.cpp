#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "base/error.h"
#include "base/isa.h"
#include "support.h"

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  try {
    const bertology::IsaChoice choice = bertology::choose_isa();
    std::printf("instruction set: %s (%s)\n", name_of(choice.isa), choice.why.c_str());
  } catch (const bertology::Error& error) {
    std::printf("skipped: %s\n", error.what());
    return kSkipped;
  }
  try {
    const char* library = std::getenv("BERTOLOGY_CUDA_LIBRARY");
    if (library != nullptr) bertology::set_cuda_library(library);
    std::printf("%s\n", bertology::testing::backend().description().c_str());
  } catch (const bertology::Error& error) {
    std::printf("skipped: %s\n", error.what());
    return kSkipped;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
