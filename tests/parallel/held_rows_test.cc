// Rows that arrays hold at once, from rows written by hand.
#include "parallel/held_rows.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

using Batch = HeldRowsMeter::Batch;

TEST(HeldRows, EntriesOfTheStashHaveEachTheirMost) {
  HeldRowsMeter meter(/*keeps_rows=*/true, /*bank_slots=*/1);
  for (int pass = 0; pass < 2; ++pass) {
    meter.BeginPass(/*forward_only=*/false);
    const int64_t more = pass;
    meter.Add({.lane = Lane::kForward, .rows = 10, .from_others = 4, .largest_piece = 10, .entry = 0});
    meter.Add({.lane = Lane::kForward, .rows = 30 + more, .from_others = 9, .largest_piece = 20, .entry = 1});
    meter.Add({.lane = Lane::kBackward, .rows = 30 + more, .from_others = 9, .largest_piece = 31});
    meter.Add({.lane = Lane::kForward, .rows = 15, .from_others = 15, .largest_piece = 8, .entry = 0});
    meter.Add(
        {.lane = Lane::kBackward, .rows = 25, .from_others = 8, .largest_piece = 25, .is_joined = true});
  }
  EXPECT_EQ(meter.most(), (HeldRows{.stashed = 15 + 31,
                                    .kept = 15 + 31,
                                    .joined = 25,
                                    .batch = 31,
                                    .backward = 31,
                                    .forward_wire = 15,
                                    .backward_wire = 9,
                                    .forward_piece = 20,
                                    .backward_piece = 31,
                                    .unkept_piece = 0,
                                    .banked = 0}));
}

TEST(HeldRows, WhatIsNotKeptIsComputedAgain) {
  const auto unkept = [](bool keeps_rows, bool forward_only) {
    HeldRowsMeter meter(keeps_rows, 1);
    meter.BeginPass(forward_only);
    meter.Add({.lane = Lane::kForward, .rows = 7, .largest_piece = 5, .entry = 0});
    if (!forward_only) meter.Add({.lane = Lane::kBackward, .rows = 9, .largest_piece = 9});
    return meter.most().unkept_piece;
  };
  EXPECT_EQ(unkept(true, false), 0);
  EXPECT_EQ(unkept(true, true), 5);
  EXPECT_EQ(unkept(false, false), 9);
}

TEST(HeldRows, ValidationsKeepNothing) {
  HeldRowsMeter meter(true, 1);
  meter.BeginPass(false);
  for (const int entry : {0, 1}) meter.Add({.lane = Lane::kForward, .rows = 5, .entry = entry});
  meter.BeginPass(true);
  meter.Add({.lane = Lane::kForward, .rows = 8, .entry = 0});
  EXPECT_EQ(meter.most().stashed, 8 + 5);
  EXPECT_EQ(meter.most().kept, 5 + 5);
}

TEST(HeldRows, BanksTakeTurns) {
  HeldRowsMeter meter(true, 2);
  const auto pass = [&](std::initializer_list<int64_t> slots) {
    meter.BeginPass(false);
    for (const int64_t rows : slots) meter.Add({.lane = Lane::kBackward, .rows = rows});
    return meter.most().banked;
  };
  EXPECT_EQ(pass({3, 4, 10}), 7 + 10) << "slots 0 and 1 fill the first bank";
  EXPECT_EQ(pass({1, 1, 9}), 9 + 10) << "a step begins where the last one ended, with an empty bank";
}

TEST(HeldRows, NumbersAndNamesGoTogether) {
  HeldRows rows;
  int64_t value = 0;
  for (int64_t* number : rows.numbers()) *number = ++value;
  for (int i = 0; i < HeldRows::kNumNumbers; ++i) EXPECT_EQ(rows.values()[i], i + 1);
  EXPECT_EQ(rows.stashed, 1);
  EXPECT_STREQ(HeldRows::Names()[0], "stashed");
  EXPECT_EQ(rows.unkept_piece, 10);
  EXPECT_STREQ(HeldRows::Names()[9], "unkept_piece");
  EXPECT_EQ(rows.banked, HeldRows::kNumNumbers);
}

}  // namespace
}  // namespace unipool
