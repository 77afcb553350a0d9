#include "launcher/serve/http_server.h"

#include <cerrno>
#include <cstring>

#include "launcher/serve/completion_request.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr char kJson[] = "application/json";
constexpr int kBacklog = 256;  // connections that the system holds until they are taken

void SetError(int status, const std::string& message, httplib::Response& response) {
  response.status = status;
  response.set_content(ErrorBody(status, message), kJson);
}

const char* MessageOf(int status) {
  switch (status) {
    case 400:
      return "the request is not HTTP as this server reads it";
    case 404:
      return "there are POST /v1/completions, GET /v1/models and GET /health";
    case 413:
      return "the body is too large";
    case 414:
      return "the address is too long";
    default:
      return "the request cannot be answered";
  }
}

// Before the body is read: only plain bytes are taken, which cannot become more than were sent.
httplib::Server::HandlerResponse RefuseEncodings(const httplib::Request& request,
                                                 httplib::Response& response) {
  const std::string type = request.get_header_value("Content-Type");
  const std::string encoding = request.get_header_value("Content-Encoding");
  const bool is_plain = encoding.empty() || encoding == "identity";
  if (is_plain && type.rfind("multipart/", 0) != 0) return httplib::Server::HandlerResponse::Unhandled;
  response.set_header("Connection", "close");
  SetError(415, "the body must be JSON, as it is: not packed, not in parts", response);
  return httplib::Server::HandlerResponse::Handled;
}

}  // namespace

HttpServer::HttpServer(const HttpServerOptions& options, HttpAnswers answers) {
  server_.new_task_queue = [options] {
    return new ConnectionThreads(options.threads, options.waiting_connections);
  };
  server_.set_payload_max_length(options.body_bytes);
  server_.set_read_timeout(5);
  server_.set_write_timeout(5);
  server_.set_keep_alive_max_count(100'000);
  server_.set_keep_alive_timeout(5);
  server_.set_tcp_nodelay(true);
  // Not the library's, with which a second server could share the port unseen.
  int listening = -1;
  server_.set_socket_options([&listening](auto socket) {
    listening = socket;
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  Route(std::move(answers));
  errno = 0;
  if (options.port == 0) {
    port_ = server_.bind_to_any_port(options.host);
  } else if (server_.bind_to_port(options.host, options.port)) {
    port_ = options.port;
  }
  if (port_ <= 0) {
    throw UserError(Format("--port=%d: cannot be had on %s: %s", options.port, options.host,
                           errno != 0 ? std::strerror(errno) : "there is no such host"));
  }
  listen(listening, kBacklog);  // the library's five are too few where many ask at once
  server_.set_socket_options([](auto) {});
  slow_ = std::make_unique<SlowConnections>(port_, options.request_limit);
}

HttpServer::~HttpServer() {
  Stop();
}

httplib::Server::Handler HttpServer::Answering(Work work) {
  return [this, work = std::move(work)](const httplib::Request& request, httplib::Response& response) {
    const SlowConnections::Client client{request.remote_addr, request.remote_port};
    slow_->Begin(client);
    try {
      response.set_content(work(request), kJson);
    } catch (const HttpError& error) {
      SetError(error.status(), error.what(), response);
      if (error.status() == 429 || error.status() == 503) response.set_header("Retry-After", "1");
    } catch (const std::exception& error) {
      SetError(500, error.what(), response);
    }
    slow_->End(client);
  };
}

void HttpServer::Route(HttpAnswers answers) {
  const auto refuse = [this](const char* method) {
    return Answering([method](const httplib::Request&) -> std::string {
      throw HttpError(405, std::string("here only ") + method + " is answered");
    });
  };
  const auto no_body = [](std::function<std::string()> answer) {
    return [answer = std::move(answer)](const httplib::Request&) { return answer(); };
  };
  server_.Post("/v1/completions",
               Answering([answer = std::move(answers.completions)](const httplib::Request& request) {
                 return answer(request.body);
               }));
  server_.Get("/v1/models", Answering(no_body(std::move(answers.models))));
  server_.Get("/health", Answering(no_body([] { return std::string("{\"status\":\"ok\"}\n"); })));
  server_.Get("/v1/completions", refuse("POST"));
  server_.Put("/v1/completions", refuse("POST"));
  server_.Patch("/v1/completions", refuse("POST"));
  server_.Delete("/v1/completions", refuse("POST"));
  server_.Post("/v1/models", refuse("GET"));
  server_.set_pre_routing_handler(RefuseEncodings);
  server_.set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (response.body.empty()) SetError(response.status, MessageOf(response.status), response);
  });
}

void HttpServer::Start() {
  thread_ = std::thread([this] { server_.listen_after_bind(); });
  while (!server_.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void HttpServer::Stop() {
  if (!thread_.joinable()) return;
  server_.stop();
  slow_->EndAll();
  thread_.join();
}

}  // namespace unipool
