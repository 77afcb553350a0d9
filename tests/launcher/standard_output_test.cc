#include "launcher/standard_output.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>

namespace unipool {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Runs `body` with another file in place of the standard output.
template <class Body>
void WithOutput(int file, const Body& body) {
  std::fflush(stdout);
  const int before = dup(STDOUT_FILENO);
  dup2(file, STDOUT_FILENO);
  body();
  dup2(before, STDOUT_FILENO);
  close(before);
  close(file);
  std::clearerr(stdout);
}

TEST(StandardOutput, ArrivesOrSaysWhyNot) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  WithOutput(ends[1], [] { PrintResult("a result\n"); });
  char text[100];
  EXPECT_EQ(std::string(text, read(ends[0], text, sizeof text)), "a result\n");
  close(ends[0]);
  for (const size_t size : {10, 1000000}) {  // less and more than a buffer
    WithOutput(open("/dev/full", O_WRONLY), [&] {
      EXPECT_THAT([&] { PrintResult(std::string(size, 'x')); },
                  ThrowsMessage<OutputError>(
                      HasSubstr("standard output: cannot be written: No space left on device")));
    });
    WithOutput(open("/dev/null", O_RDONLY), [&] {
      EXPECT_THAT([&] { PrintResult(std::string(size, 'x')); },
                  ThrowsMessage<OutputError>(HasSubstr("Bad file descriptor")));
    });
  }
}

}  // namespace
}  // namespace unipool
