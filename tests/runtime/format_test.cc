#include "runtime/format.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <limits>

namespace unipool {
namespace {

constexpr FormatKind kInteger = FormatKind::kInteger, kReal = FormatKind::kReal, kText = FormatKind::kText;

// What the compiler is told of a format; what does not fit would not compile as an argument of Format.
static_assert(FormatFits("no conversion, 100 %%", {}));
static_assert(FormatFits("%d %02x %-9s %10.3f %+g %.2e", {kInteger, kInteger, kText, kReal, kReal, kReal}));
static_assert(!FormatFits("%d", {}), "an argument is missing");
static_assert(!FormatFits("%d", {kInteger, kInteger}), "an argument too many");
static_assert(!FormatFits("%d", {kText}) && !FormatFits("%s", {kInteger}) && !FormatFits("%f", {kInteger}));
static_assert(!FormatFits("%lld", {kInteger}) && !FormatFits("%zu", {kInteger}),
              "widths are not the caller's affair");
static_assert(!FormatFits("%n", {kInteger}) && !FormatFits("%*d", {kInteger, kInteger}) &&
              !FormatFits("%c", {kInteger}));
static_assert(!FormatFits("100 %", {}) && !FormatFits("%5", {kInteger}), "a conversion that ends too early");

template <class T>
void ExpectAsPrintf(const char* printf_format, T value, const std::string& text) {
  char expected[200];
  std::snprintf(expected, sizeof(expected), printf_format, value);
  EXPECT_EQ(text, expected);
}

TEST(Format, IntegersOfEveryWidth) {
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min();
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  ExpectAsPrintf("%lld", static_cast<long long>(kLeast), Format("%d", kLeast));
  ExpectAsPrintf("%llu", static_cast<unsigned long long>(kMost), Format("%d", kMost));
  ExpectAsPrintf("%d", -7, Format("%d", -7));
  ExpectAsPrintf("%05d", -7, Format("%05d", -7));
  ExpectAsPrintf("%-6d|", 42, Format("%-6d|", 42));
  ExpectAsPrintf("%14lld", 1LL << 40, Format("%14d", int64_t{1} << 40));
  ExpectAsPrintf("%zu", size_t{3}, Format("%d", size_t{3}));
  ExpectAsPrintf("0x%02x", 0xau, Format("0x%02x", uint8_t{0xa}));
  ExpectAsPrintf("%llx", static_cast<unsigned long long>(kMost), Format("%x", kMost));
}

TEST(Format, RealNumbers) {
  for (const double value : {0.0, -1.5, 1e-9, 123456789.0, 0.1}) {
    ExpectAsPrintf("%g", value, Format("%g", value));
    ExpectAsPrintf("%10.3f", value, Format("%10.3f", value));
    ExpectAsPrintf("%.2e", value, Format("%.2e", value));
  }
  EXPECT_EQ(Format("%g", 0.25F), "0.25");
}

TEST(Format, TextOfEveryType) {
  const std::string text = "text";
  const char* pointer = "pointer";
  EXPECT_EQ(Format("%s %s %s %s", text, pointer, "literal", std::string_view(text).substr(1, 2)),
            "text pointer literal ex");
  EXPECT_EQ(Format("%-6s|%6s|%.2s", text, text, text), "text  |  text|te");
  EXPECT_EQ(Format("%s", std::string(5000, 'x')).size(), 5000u);
}

TEST(Format, WhatIsNoConversionStays) {
  EXPECT_EQ(Format(""), "");
  EXPECT_EQ(Format("a line\n"), "a line\n");
  EXPECT_EQ(Format("%d %% of %s%%", 50, "100 %"), "50 % of 100 %%");
}

}  // namespace
}  // namespace unipool
