#include "launcher/slurm/start_ledger.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

std::string PathOf(const std::string& run_dir) {
  return SubmitFolder(run_dir) + "/ledger.jsonl";
}

StartAction ActionOf(const std::string& name) {
  for (const StartAction action : {StartAction::kDone, StartAction::kRequeue, StartAction::kLeave}) {
    if (name == NameOf(action)) return action;
  }
  return StartAction::kGiveUp;
}

// One write at the end of the file, so that lines of two writers do not mix. A line that was broken off is
// closed first.
void AddLine(const std::string& run_dir, const Json& json) {
  const std::string path = PathOf(run_dir);
  std::error_code ignored;
  std::filesystem::create_directories(SubmitFolder(run_dir), ignored);
  const int fd = open(path.c_str(), O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) throw UserError("cannot write " + path + ": " + std::strerror(errno));
  std::string line = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  const off_t size = lseek(fd, 0, SEEK_END);
  char last = '\n';
  if (size > 0 && pread(fd, &last, 1, size - 1) == 1 && last != '\n') line.insert(0, "\n");
  const bool is_written =
      write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && fsync(fd) == 0;
  const int error = errno;
  close(fd);
  if (!is_written) throw UserError("cannot write " + path + ": " + std::strerror(error));
}

Json EventOf(const char* event, const LedgerStart& start) {
  return {{"event", event}, {"time", std::time(nullptr)}, {"job", start.job}, {"restart", start.restart}};
}

LedgerStart* FindStart(Ledger& ledger, const Json& json) {
  for (auto submission = ledger.submissions.rbegin(); submission != ledger.submissions.rend(); ++submission) {
    for (auto start = submission->starts.rbegin(); start != submission->starts.rend(); ++start) {
      if (start->job == json.at("job") && start->restart == json.at("restart")) return &*start;
    }
  }
  return nullptr;
}

bool HaveOneInCommon(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  return std::any_of(a.begin(), a.end(),
                     [&](const std::string& one) { return std::find(b.begin(), b.end(), one) != b.end(); });
}

StartEnd EndOf(const Json& json) {
  return {.exit_code = json.at("exit_code"),
          .action = ActionOf(json.at("action")),
          .failed = json.at("failed"),
          .reason = json.at("reason"),
          .step = json.at("step"),
          .steps = json.at("steps"),
          .excluded = json.at("excluded")};
}

// Throws nlohmann's exception where the object is none of the ledger's.
void AddEvent(Ledger& ledger, const Json& json) {
  const std::string event = json.at("event");
  if (event == "submitted") {
    Submission submission{.jobs = json.at("jobs"),
                          .script = json.at("script"),
                          .name = json.at("name"),
                          .chain = json.at("chain"),
                          .time = json.at("time")};
    // A job may begin before whoever submitted it has written so.
    if (!ledger.submissions.empty() && HaveOneInCommon(ledger.submissions.back().jobs, submission.jobs)) {
      submission.starts = std::move(ledger.submissions.back().starts);
      ledger.submissions.pop_back();
    }
    ledger.submissions.push_back(std::move(submission));
    return;
  }
  if (event == "start") {
    if (ledger.submissions.empty()) ledger.submissions.emplace_back();
    ledger.submissions.back().starts.push_back({.job = json.at("job"),
                                                .restart = json.at("restart"),
                                                .time = json.at("time"),
                                                .step = json.at("step"),
                                                .nodes = json.at("nodes"),
                                                .log = json.value("log", ""),
                                                .log_offset = json.value("log_offset", int64_t{0})});
    return;
  }
  LedgerStart* start = FindStart(ledger, json);
  if (!start) return;
  if (event == "term") start->was_terminated = true;
  if (event == "picked")
    start->picked =
        PickedNodes{.nodes = json.at("nodes"), .spare = json.at("spare"), .reason = json.at("reason")};
  if (event == "bad_nodes")
    start->bad_nodes = BadNodes{.nodes = json.at("nodes"), .reason = json.at("reason")};
  if (event == "end") start->end = EndOf(json);
  if (event == "end" || event == "term") start->end_time = json.at("time");
}

}  // namespace

const char* NameOf(StartAction action) {
  switch (action) {
    case StartAction::kDone:
      return "done";
    case StartAction::kRequeue:
      return "requeue";
    case StartAction::kLeave:
      return "leave";
    case StartAction::kGiveUp:
      break;
  }
  return "give_up";
}

std::string SubmitFolder(const std::string& run_dir) {
  return run_dir + "/submit";
}

std::string LogOf(const std::string& run_dir, const LedgerStart& start) {
  return start.log.empty() ? run_dir + "/logs/" + start.job + ".out" : start.log;
}

Ledger ParseLedger(const std::string& text) {
  Ledger ledger;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object()) continue;
    try {
      AddEvent(ledger, json);
    } catch (const Json::exception&) {
    }
  }
  return ledger;
}

Ledger ReadLedger(const std::string& run_dir) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(PathOf(run_dir), ignored)) return {};
  std::ifstream file(PathOf(run_dir));
  std::stringstream text;
  text << file.rdbuf();
  return ParseLedger(text.str());
}

void NoteSubmission(const std::string& run_dir, const Submission& submission) {
  AddLine(run_dir, {{"event", "submitted"},
                    {"time", std::time(nullptr)},
                    {"jobs", submission.jobs},
                    {"script", submission.script},
                    {"name", submission.name},
                    {"chain", submission.chain}});
}

void NoteStart(const std::string& run_dir, const LedgerStart& start) {
  Json json = EventOf("start", start);
  json["step"] = start.step;
  json["nodes"] = start.nodes;
  json["log"] = start.log;
  json["log_offset"] = start.log_offset;
  AddLine(run_dir, json);
}

void NotePicked(const std::string& run_dir, const LedgerStart& start, const PickedNodes& picked) {
  Json json = EventOf("picked", start);
  json["nodes"] = picked.nodes;
  json["spare"] = picked.spare;
  json["reason"] = picked.reason;
  AddLine(run_dir, json);
}

void NoteBadNodes(const std::string& run_dir, const LedgerStart& start, const BadNodes& bad) {
  Json json = EventOf("bad_nodes", start);
  json["nodes"] = bad.nodes;
  json["reason"] = bad.reason;
  AddLine(run_dir, json);
}

void NoteEnd(const std::string& run_dir, const LedgerStart& start, const StartEnd& end) {
  Json json = EventOf("end", start);
  json["exit_code"] = end.exit_code;
  json["action"] = NameOf(end.action);
  json["failed"] = end.failed;
  json["reason"] = end.reason;
  json["step"] = end.step;
  json["steps"] = end.steps;
  json["excluded"] = end.excluded;
  AddLine(run_dir, json);
}

}  // namespace unipool
