#include <gflags/gflags.h>
#include <poll.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

#include "launcher/commands.h"
#include "launcher/reports/terminal.h"
#include "launcher/reports/watch_frame.h"
#include "launcher/standard_output.h"
#include "runtime/watchdog.h"

DEFINE_bool(once, false, "watch: print how the run stands now, and end");

namespace unipool {
namespace {

constexpr int kPauseMilliseconds = 1000;
std::atomic<bool> is_asked_to_end{false};

// The screen as it was comes back when this goes.
class WholeScreen {
 public:
  WholeScreen() {
    struct sigaction action {};
    action.sa_handler = [](int) { is_asked_to_end = true; };
    for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
    has_keys_ = tcgetattr(STDIN_FILENO, &before_) == 0;
    if (has_keys_) {  // keys arrive at once and are not shown
      termios raw = before_;
      raw.c_lflag &= ~(ICANON | ECHO);
      tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    PrintResult("\033[?1049h\033[?25l");
  }
  ~WholeScreen() {
    if (has_keys_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
    try {
      PrintResult("\033[?25h\033[?1049l");
    } catch (const UserError&) {  // the terminal is gone
    }
  }
  WholeScreen(const WholeScreen&) = delete;
  void Show(const std::string& frame) const {
    std::string text = "\033[H";
    for (char c : frame) text += c == '\n' ? "\033[K\r\n" : std::string(1, c);
    PrintResult(text + "\033[J");
  }
  // Waits a little. Returns whether the person wants to leave.
  bool WantsToLeave() const {
    pollfd keys{.fd = has_keys_ ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0};
    if (!is_asked_to_end && poll(&keys, 1, kPauseMilliseconds) > 0) {
      char key = 0;
      const ssize_t count = read(STDIN_FILENO, &key, 1);
      if (count <= 0 && errno != EINTR) return true;  // the terminal is gone
      if (key == 'q' || key == 'Q' || key == '\033' || key == '\004') return true;
    }
    return is_asked_to_end;
  }

 private:
  termios before_{};
  bool has_keys_ = false;
};

// Whether the process ran here and is no more.
bool IsGone(const RunState& state) {
  const bool was_here = state.hosts.size() == 1 && state.hosts[0] == HostName() && state.pid > 0;
  return was_here && kill(static_cast<pid_t>(state.pid), 0) != 0 && errno == ESRCH;
}

std::string Frame(const RunRecord& record, const TerminalChartOptions& options) {
  const std::string& folder = record.path();
  WatchedRun run{.record = record, .state = ReadRunState(folder), .heartbeat = ReadHeartbeat(folder)};
  run.is_gone = run.state && IsGone(*run.state);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return WatchFrame(run, std::chrono::duration<double>(now).count(), options);
}

TerminalChartOptions OptionsNow(const OutputTerminal& terminal) {
  const TerminalSize size = SizeOfTerminal(terminal.fd());
  return {
      .columns = size.columns, .rows = size.rows, .utf8 = ShowsUtf8(), .colors = ShowsColors(terminal.fd())};
}

}  // namespace

int WatchCommand(const CommandLine& command_line) {
  const std::string& folder = command_line.config_path;
  std::error_code ignored;
  if (std::filesystem::is_regular_file(folder, ignored))
    throw UserError(folder + ": is a file; give the folder of a run, for example runs/demo");
  RunRecord record(folder);
  if (!IsPrintingProcess()) return 0;
  const OutputTerminal terminal(IsUnderMpirun());
  if (FLAGS_once || !terminal.is_there()) {
    PrintResult(Frame(record, OptionsNow(terminal)));
    return 0;
  }
  const WholeScreen screen;
  do {
    record.Read();
    screen.Show(Frame(record, OptionsNow(terminal)) + "q ends\n");
  } while (!screen.WantsToLeave());
  return 0;
}

}  // namespace unipool
