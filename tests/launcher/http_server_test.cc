// Paths, limits and status codes, asked over the loopback as clients do.
#include "launcher/serve/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>

#include "launcher/serve/completion_request.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class Serving : public testing::Test {
 protected:
  explicit Serving(milliseconds limit = milliseconds(400))
      : server_(
            {.port = 0, .body_bytes = 1000, .threads = 4, .waiting_connections = 4, .request_limit = limit},
            {.completions = [this](const std::string& body) { return Answer(body); },
             .models = [] { return std::string("{\"data\":[]}"); }}) {
    server_.Start();
  }
  ~Serving() override { server_.Stop(); }
  std::string Answer(const std::string& body) {
    ++asked_;
    if (body == "busy") throw HttpError(429, "busy");
    if (body == "broken") throw std::runtime_error("broken");
    return "{\"got\":" + std::to_string(body.size()) + "}";
  }
  httplib::Client Client() { return httplib::Client("127.0.0.1", server_.port()); }
  int StatusOf(const std::string& method, const std::string& path, const std::string& body = "",
               const httplib::Headers& headers = {}) {
    httplib::Client client = Client();
    httplib::Request request;
    request.method = method;
    request.path = path;
    request.body = body;
    request.headers = headers;
    if (!body.empty()) request.headers.emplace("Content-Type", "application/json");
    const httplib::Result result = client.send(request);
    return result ? result->status : -1;
  }
  // A connection of bytes.
  int Connect() {
    const int file = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(server_.port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(file, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return file;
  }

  std::atomic<int> asked_ = 0;
  HttpServer server_;
};

TEST_F(Serving, PathsAndMethods) {
  EXPECT_EQ(StatusOf("GET", "/v1/models"), 200);
  EXPECT_EQ(StatusOf("GET", "/health"), 200);
  EXPECT_EQ(StatusOf("POST", "/v1/completions", "{}"), 200);
  EXPECT_EQ(StatusOf("GET", "/v1/completions"), 405);
  EXPECT_EQ(StatusOf("DELETE", "/v1/completions"), 405);
  EXPECT_EQ(StatusOf("POST", "/v1/models", "{}"), 405);
  EXPECT_EQ(StatusOf("POST", "/v1/chat/completions", "{}"), 404);
  EXPECT_EQ(StatusOf("GET", "/../etc/passwd"), 404);
  EXPECT_EQ(asked_, 1);
}

TEST_F(Serving, ErrorsHaveTheirStatus) {
  EXPECT_EQ(StatusOf("POST", "/v1/completions", "busy"), 429);
  EXPECT_EQ(StatusOf("POST", "/v1/completions", "broken"), 500);
  EXPECT_EQ(StatusOf("POST", "/v1/completions", std::string(1001, 'x')), 413);
  EXPECT_EQ(StatusOf("POST", "/v1/completions", std::string(1000, 'x')), 200);
  EXPECT_EQ(StatusOf("POST", "/v1/completions", "x", {{"Content-Encoding", "gzip"}}), 415);
  httplib::Client client = Client();
  const httplib::Result result = client.Post("/v1/completions", "busy", "application/json");
  ASSERT_TRUE(result);
  EXPECT_THAT(result->body, HasSubstr("\"message\":\"busy\""));
  EXPECT_EQ(result->get_header_value("Retry-After"), "1");
}

TEST_F(Serving, ThePortIsItsOwn) {
  EXPECT_THAT([&] { HttpServer({.port = server_.port()}, {}); },
              testing::ThrowsMessage<UserError>(HasSubstr("cannot be had on 127.0.0.1")));
}

// A byte now and then holds a connection for the limit and no longer, and others are served meanwhile.
TEST_F(Serving, SlowClientsAreCutOff) {
  std::vector<int> slow;
  for (int i = 0; i < 6; ++i) slow.push_back(Connect());  // more than there are threads
  const auto begin = std::chrono::steady_clock::now();
  bool all_cut = false;
  while (!all_cut && std::chrono::steady_clock::now() - begin < std::chrono::seconds(20)) {
    all_cut = true;
    for (const int file : slow) {
      if (send(file, "G", 1, MSG_NOSIGNAL) == 1) all_cut = false;
    }
    std::this_thread::sleep_for(milliseconds(50));
  }
  EXPECT_TRUE(all_cut);
  EXPECT_EQ(StatusOf("GET", "/health"), 200);
  for (const int file : slow) close(file);
}

TEST_F(Serving, StopsThoughClientsAreConnected) {
  const int file = Connect();
  ASSERT_EQ(send(file, "POST /v1/completions HTTP/1.1\r\n", 31, MSG_NOSIGNAL), 31);
  const auto begin = std::chrono::steady_clock::now();
  server_.Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  close(file);
}

}  // namespace
}  // namespace unipool
