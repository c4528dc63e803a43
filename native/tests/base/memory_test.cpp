#include "base/memory.h"

#include <gtest/gtest.h>

#include <string>

#include "base/arena.h"
#include "base/error.h"

namespace bertology {
namespace {

TEST(MemoryTest, IsZeroedAlignedAndKeepsItsAddressWhenDiscarded) {
  Mapping mapping(100000, "a test");
  ASSERT_GE(mapping.bytes(), 100000u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(mapping.data()) % 64, 0u);
  char* bytes = static_cast<char*>(mapping.data());
  EXPECT_EQ(bytes[99999], 0);
  bytes[5] = 1;
  mapping.discard();
  EXPECT_EQ(mapping.data(), bytes);
  EXPECT_EQ(bytes[5], 0);
}

TEST(MemoryTest, ShrinksInPlace) {
  Mapping mapping(1 << 20, "a test");
  void* data = mapping.data();
  static_cast<char*>(data)[0] = 7;
  mapping.shrink(5000);
  EXPECT_EQ(mapping.data(), data);
  EXPECT_EQ(mapping.bytes(), 8192u);
  EXPECT_EQ(static_cast<char*>(data)[0], 7);
  mapping.shrink(0);
  EXPECT_EQ(mapping.bytes(), 0u);
}

TEST(MemoryTest, SaysWhatWasAskedForWhenItRunsOut) {
  try {
    Mapping mapping(size_t{1} << 50, "the moon");
    FAIL() << "a petabyte was granted";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), BERTOLOGY_OUT_OF_MEMORY);
    EXPECT_NE(std::string(error.what()).find("the moon needs 1125899906842624 bytes"),
              std::string::npos)
        << error.what();
  }
}

TEST(MemoryTest, LayoutMeasuresWhatItPlaces) {
  const auto describe = [](Layout& layout) {
    std::vector<float*> places;
    for (const int64_t count : {1, 16, 17, 0, 100}) places.push_back(layout.floats(count));
    return places;
  };
  Layout measuring;
  for (const float* place : describe(measuring)) EXPECT_EQ(place, nullptr);
  Arena arena;
  float* memory = arena.reserve(measuring.used(), "a test");
  Layout placing(memory);
  const std::vector<float*> places = describe(placing);
  EXPECT_EQ(placing.used(), measuring.used());
  for (size_t i = 1; i < places.size(); ++i) EXPECT_GE(places[i], places[i - 1]);
  EXPECT_EQ(places[2] - places[1], 16);
  EXPECT_EQ(places[3] - places[2], 32);
  EXPECT_EQ(arena.reserve(10, "a test"), memory) << "a smaller need must reuse the memory";
}

}  // namespace
}  // namespace bertology
