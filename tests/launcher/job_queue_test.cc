#include "launcher/serve/job_queue.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "launcher/serve/completion_request.h"

namespace unipool {
namespace {

int StatusOf(JobQueue& queue, JobQueue::Job job) {
  try {
    queue.Run(std::move(job));
  } catch (const HttpError& error) {
    return error.status();
  }
  return 200;
}

TEST(JobQueue, RunsJobsOnTheOtherThreadInOrder) {
  JobQueue queue(8);
  std::thread::id worker_id;
  std::thread worker([&] {
    worker_id = std::this_thread::get_id();
    queue.Work();
  });
  EXPECT_EQ(queue.Run([&] { return std::this_thread::get_id() == worker_id ? "there" : "here"; }), "there");
  EXPECT_EQ(StatusOf(queue, []() -> std::string { throw HttpError(418, "no"); }), 418);
  queue.Stop();
  worker.join();
  EXPECT_EQ(StatusOf(queue, [] { return std::string(); }), 503);
}

TEST(JobQueue, TakesNoMoreThanItHolds) {
  JobQueue queue(2);
  std::promise<void> may_end;
  const std::shared_future<void> end = may_end.get_future().share();
  std::thread worker([&] { queue.Work(); });
  std::promise<void> began;
  std::vector<std::thread> clients;
  std::atomic<int> ended_well = 0, stopped = 0;
  const auto ask = [&](JobQueue::Job job) {
    clients.emplace_back([&queue, &ended_well, &stopped, job] {
      const int status = StatusOf(queue, job);
      ended_well += status == 200 ? 1 : 0;
      stopped += status == 503 ? 1 : 0;
    });
  };
  ask([&] {
    began.set_value();
    end.wait();
    return std::string();
  });
  began.get_future().wait();  // it runs, and does not wait
  for (int i = 0; i < 2; ++i) ask([] { return std::string(); });
  while (queue.num_waiting() < 2) std::this_thread::yield();
  EXPECT_EQ(StatusOf(queue, [] { return std::string("a third"); }), 429);
  queue.Stop();
  may_end.set_value();
  worker.join();
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(ended_well, 1);
  EXPECT_EQ(stopped, 2);
}

}  // namespace
}  // namespace unipool
