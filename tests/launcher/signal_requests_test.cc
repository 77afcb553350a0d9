// Signals become requests; a second TERM or INT ends the process.
#include "launcher/run_control/signal_requests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

namespace unipool {
namespace {

RunRequests Asked(SignalRequests& signals) {
  RunRequests requests;
  signals.AddTo(requests);
  return requests;
}

TEST(RunRequests, TellSavesFromStopsAndWhoAsked) {
  RunRequests requests;
  EXPECT_FALSE(requests.WantsSave() || requests.WantsStop());
  EXPECT_EQ(requests.Reason(), "");
  requests.Add(RunRequest::kSaveFile);
  EXPECT_TRUE(requests.WantsSave());
  EXPECT_FALSE(requests.WantsStop());
  EXPECT_EQ(requests.Reason(), "the file save");
  requests.Add(RunRequest::kStopTerm);
  requests.Add(RunRequest::kStopTerm);
  requests.Add(RunRequest::kStopTime);
  EXPECT_TRUE(requests.WantsStop());
  EXPECT_EQ(requests.Reason(), "SIGTERM and train.stop_at");
}

TEST(SignalRequests, ASaveIsAskedOnceAndAStopForGood) {
  SignalRequests signals;
  EXPECT_EQ(Asked(signals).Reason(), "");
  raise(SIGUSR1);
  raise(SIGUSR1);
  EXPECT_FALSE(signals.StopAsked());
  EXPECT_EQ(Asked(signals).Reason(), "SIGUSR1");
  EXPECT_EQ(Asked(signals).Reason(), "");
  raise(SIGUSR2);
  EXPECT_TRUE(signals.StopAsked());
  EXPECT_EQ(Asked(signals).Reason(), "SIGUSR2");
  EXPECT_EQ(Asked(signals).Reason(), "SIGUSR2");
}

TEST(SignalRequests, EachStopHasItsName) {
  for (const auto& [number, name] : {std::pair{SIGUSR2, "SIGUSR2"},
                                     {SIGTERM, "SIGTERM"},
                                     {SIGINT, "SIGINT"},
                                     {SIGHUP, "SIGHUP"},
                                     {SIGXCPU, "SIGXCPU"}}) {
    SignalRequests signals;
    raise(number);
    EXPECT_EQ(Asked(signals).Reason(), name);
  }
}

TEST(SignalRequests, PipeIsIgnoredAndHandlersArePutBack) {
  signal(SIGPIPE, SIG_DFL);  // an HTTP server of another test has ignored it for good
  {
    SignalRequests signals;
    raise(SIGPIPE);
  }
  struct sigaction now {};
  sigaction(SIGTERM, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_DFL);
  sigaction(SIGPIPE, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_DFL);
}

TEST(SignalRequests, WhatTheParentIgnoresStaysIgnored) {
  for (const int number : {SIGHUP, SIGINT}) {
    signal(number, SIG_IGN);
    {
      SignalRequests signals;
      raise(number);
      EXPECT_FALSE(signals.StopAsked());
    }
    signal(number, SIG_DFL);
  }
}

TEST(SignalRequests, TheSameTermTwiceAtOnceIsOne) {
  SignalRequests signals;
  raise(SIGTERM);
  raise(SIGTERM);
  EXPECT_EQ(Asked(signals).Reason(), "SIGTERM");
}

TEST(SignalRequestsDeathTest, ASecondOneEndsTheProcessAtOnceAndLeavesTheLastWords) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const std::string path = testing::TempDir() + "last_words";
  for (const auto& [first, second] : {std::pair{SIGTERM, SIGTERM}, {SIGINT, SIGTERM}, {SIGTERM, SIGINT}}) {
    unlink(path.c_str());
    EXPECT_EXIT(
        {
          SignalRequests signals;
          signals.SetLastWords(path, "older");
          signals.SetLastWords(path, "ended at once");
          raise(first);
          usleep(300'000);
          raise(second);
        },
        testing::ExitedWithCode(128 + second), "");
    std::ostringstream words;
    words << std::ifstream(path).rdbuf();
    EXPECT_EQ(words.str(), "ended at once");
  }
  unlink(path.c_str());
}

TEST(SignalRequests, UsrAndATermAreNoSecondTerm) {
  SignalRequests signals;
  raise(SIGUSR2);
  usleep(250'000);
  raise(SIGTERM);
  raise(SIGUSR2);
  EXPECT_EQ(Asked(signals).Reason(), "SIGUSR2 and SIGTERM");
}

TEST(SignalRequests, InAJobOfSlurmASecondTermLeavesTimeToSave) {
  setenv("SLURM_JOB_ID", "7", 1);
  EXPECT_EXIT(
      {
        SignalRequests signals;
        for (int i = 0; i < 2; ++i) {
          raise(SIGTERM);
          usleep(300'000);
        }
        _exit(Asked(signals).Reason() == "SIGTERM" ? 75 : 1);
      },
      testing::ExitedWithCode(75), "");
  unsetenv("SLURM_JOB_ID");
}

}  // namespace
}  // namespace unipool
