// The HTTP side of `serve`: paths, limits, status codes. What a model does is the caller's.
#pragma once

#include <httplib.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "launcher/serve/connection_threads.h"
#include "launcher/serve/slow_connections.h"

namespace unipool {

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;  // 0: any that is free
  size_t body_bytes = size_t{4} << 20;
  size_t threads = 32, waiting_connections = 128;
  std::chrono::milliseconds request_limit{20'000};  // for a request to arrive, and an answer to be taken
};

// What answers a request: the body of POST /v1/completions, or nothing. It may throw HttpError.
struct HttpAnswers {
  std::function<std::string(const std::string& body)> completions;
  std::function<std::string()> models;
};

class HttpServer {
 public:
  // Binds the port. Throws UserError where it cannot be had.
  HttpServer(const HttpServerOptions& options, HttpAnswers answers);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;

  int port() const { return port_; }
  void Start();  // answers on threads of its own
  // Ends all connections and waits for its threads; again it does nothing. REQUIRES: what answers ends by
  // itself.
  void Stop();

 private:
  void Route(HttpAnswers answers);
  using Work = std::function<std::string(const httplib::Request& request)>;
  httplib::Server::Handler Answering(Work work);

  httplib::Server server_;
  int port_ = 0;
  std::unique_ptr<SlowConnections> slow_;
  std::thread thread_;
};

}  // namespace unipool
