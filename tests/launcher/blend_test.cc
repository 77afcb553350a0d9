#include "launcher/data/blend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>

#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::vector<std::pair<double, std::string>> Parse(const std::vector<std::string>& entries) {
  std::vector<std::pair<double, std::string>> list;
  for (const BlendEntry& entry : ParseBlend(entries, "data.train"))
    list.emplace_back(entry.weight, entry.source);
  return list;
}

TEST(ParseBlend, AllForms) {
  using List = std::vector<std::pair<double, std::string>>;
  const List two = {{0.7, "a/x"}, {30, "b"}};
  for (const std::vector<std::string>& form :
       std::vector<std::vector<std::string>>{{"0.7 a/x", "30 b"},
                                             {"0.7,a/x,30,b"},
                                             {"0.7 a/x 30 b"},
                                             {"[(0.7, a/x), (30, b)]"},
                                             {"[(0.7, 'a/x'), (30, \"b\")]"},
                                             {"0.7", "a/x", "30", "b"},
                                             {"[(0.7", " a/x)", " (30", " b)]"},
                                             {" 7e-1  a/x ,", " 30 b"}}) {
    EXPECT_EQ(Parse(form), two) << form[0];
  }
  EXPECT_EQ(Parse({"a", "b,c"}), (List{{0, "a"}, {0, "b"}, {0, "c"}}));
}

TEST(ParseBlend, NamesOfFilesMayHaveBlanks) {
  TemporaryFolder folder;
  const std::string file = WriteFile(folder / "my text, (1).txt", "x");
  WriteFile(folder / "tok enized.idx", "x");
  using List = std::vector<std::pair<double, std::string>>;
  EXPECT_EQ(Parse({file}), (List{{0, file}}));
  EXPECT_EQ(Parse({"0.5 " + file, "2 " + (folder / "tok enized")}),
            (List{{0.5, file}, {2, folder / "tok enized"}}));
}

// A name with blanks is one name, whether its file exists or not; so is what stands between quotes.
TEST(ParseBlend, NamesOfMissingFilesMayHaveBlanks) {
  TemporaryFolder folder;
  const std::string book = WriteFile(folder / "book.txt", "x"), no = folder / "no";
  using List = std::vector<std::pair<double, std::string>>;
  EXPECT_EQ(Parse({"0.4 " + no + " book.txt", "0.6 " + book}), (List{{0.4, no + " book.txt"}, {0.6, book}}));
  EXPECT_EQ(Parse({no + " book.txt"}), (List{{0, no + " book.txt"}}));
  EXPECT_EQ(Parse({"0.4 " + no + " " + book + " 0.6 " + book}), (List{{0.4, no + " " + book}, {0.6, book}}));
  EXPECT_EQ(Parse({book + " " + book}), (List{{0, book}, {0, book}}));
  EXPECT_EQ(Parse({"0.4 \"a, (b) 7\"", "0.6 'it is'"}), (List{{0.4, "a, (b) 7"}, {0.6, "it is"}}));
  EXPECT_THAT([&] { Parse({"0.5 " + book + " " + book}); },
              ThrowsMessage<UserError>(HasSubstr("1 of 2 sources have a weight")));
}

TEST(ParseBlend, Refuses) {
  for (const auto& [entry, message] :
       std::vector<std::pair<std::string, std::string>>{{"", "data.train is empty"},
                                                        {"0.7", "weight 0.7 has no source after it"},
                                                        {"0.7 0.3 a", "weight 0.7 is followed by 0.3"},
                                                        {"-1 a", "weight -1 must be positive"},
                                                        {"0 a 1 b", "weight 0 must be positive"},
                                                        {"0.5 a, b", "data.train: b: no such file"},
                                                        {"[(0.5, a), b]", "data.train: a: no such file"}}) {
    EXPECT_THAT([&] { ParseBlend({entry}, "data.train"); }, ThrowsMessage<UserError>(HasSubstr(message)));
  }
}

// The rule, sample by sample.
std::vector<BlendOrder::Place> InOrder(std::vector<double> weights, int64_t samples) {
  double sum = 0;
  for (const double weight : weights) sum += weight;
  std::vector<int64_t> taken(weights.size(), 0);
  std::vector<BlendOrder::Place> places;
  for (int64_t j = 0; j < samples; ++j) {
    int32_t furthest = 0;
    std::vector<double> behind;
    for (size_t i = 0; i < weights.size(); ++i) {
      volatile double share = weights[i] / sum * static_cast<double>(std::max<int64_t>(j, 1));
      behind.push_back(share - static_cast<double>(taken[i]));
    }
    furthest = static_cast<int32_t>(std::max_element(behind.begin(), behind.end()) - behind.begin());
    places.push_back({furthest, taken[furthest]++});
  }
  return places;
}

TEST(BlendOrder, SharesAreKeptAndAnySampleMayBeAskedAnyTime) {
  std::mt19937_64 random(std::random_device{}());
  for (const std::vector<double>& weights :
       std::vector<std::vector<double>>{{1}, {0.7, 0.3}, {1, 1, 1}, {5, 0.01, 3, 200, 7.77}, {1, 1e-9}}) {
    constexpr int64_t kSamples = 3000;
    const std::vector<BlendOrder::Place> expected = InOrder(weights, kSamples);
    const BlendOrder order(weights);
    for (int i = 0; i < 2000; ++i) {
      const auto j = static_cast<int64_t>(random() % kSamples);
      const BlendOrder::Place place = order.Locate(j);
      ASSERT_EQ(place.source, expected[j].source) << j;
      ASSERT_EQ(place.sample, expected[j].sample) << j;
    }
    double sum = 0;
    for (const double weight : weights) sum += weight;
    for (size_t source = 0; source < weights.size(); ++source) {
      int64_t taken = 0;
      for (int64_t j = 0; j < kSamples; ++j) {
        taken += expected[j].source == static_cast<int32_t>(source);
        ASSERT_LT(std::abs(static_cast<double>(taken) - weights[source] / sum * static_cast<double>(j + 1)),
                  2)
            << j;
      }
    }
  }
}

TEST(BlendOrder, HandWorkedCase) {  // 0.5 : 0.25 : 0.25
  const BlendOrder order({2, 1, 1});
  const std::vector<int32_t> expected = {0, 1, 2, 0, 0, 1, 2, 0};
  for (int64_t j = 0; j < 8; ++j) EXPECT_EQ(order.Locate(j).source, expected[j]) << j;
}

TEST(BlendOrder, ThreadsAgree) {
  const BlendOrder order({0.5, 0.2, 0.3});
  const std::vector<BlendOrder::Place> expected = InOrder({0.5, 0.2, 0.3}, 20000);
  std::vector<std::thread> threads;
  std::atomic<int64_t> wrong{0}, asked{0};
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int64_t j = thread; j < 20000; j += 4, ++asked) {
        const BlendOrder::Place place = order.Locate(j);
        wrong += place.source != expected[j].source || place.sample != expected[j].sample;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(asked, 20000);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace unipool
