#include <dlfcn.h>
#include <nccl.h>

#include <cstring>

#include "parallel/nccl_api.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr const char* kPlaces[] = {"", "/usr/local/cuda/lib64/", "/usr/local/cuda/lib/"};
constexpr char kLibrary[] = "libnccl.so.2";
// Older ones write straight into the memory of another thread's GPU, which our memory does not allow (it is
// mapped for its own GPU alone).
constexpr int kOldest = NCCL_VERSION(2, 23, 4);

// The functions of the library, which stays open.
struct Functions {
  decltype(&ncclGetVersion) get_version;
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRankConfig) init;
  decltype(&ncclCommFinalize) finalize;
  decltype(&ncclCommDestroy) destroy;
  decltype(&ncclCommAbort) abort;
  decltype(&ncclCommGetAsyncError) get_async_error;
  decltype(&ncclGetErrorString) error_string;
  decltype(&ncclGetLastError) last_error;
  decltype(&ncclGroupStart) group_start;
  decltype(&ncclGroupEnd) group_end;
  decltype(&ncclSend) send;
  decltype(&ncclRecv) recv;
};

std::string VersionText(int version) {
  return Format("%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

// Fills `functions`, or says why it cannot.
std::string Load(Functions* functions) {
  std::string reason;
  void* library = nullptr;
  for (const char* place : kPlaces) {
    library = dlopen((std::string(place) + kLibrary).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library) break;
    if (reason.empty()) reason = dlerror();
  }
  if (!library) return Format("%s cannot be opened (%s)", kLibrary, reason.c_str());
  const auto find = [&](auto*& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (!function && reason.empty()) reason = Format("%s has no %s", kLibrary, name);
  };
  reason.clear();
  find(functions->get_version, "ncclGetVersion");
  find(functions->get_unique_id, "ncclGetUniqueId");
  find(functions->init, "ncclCommInitRankConfig");
  find(functions->finalize, "ncclCommFinalize");
  find(functions->destroy, "ncclCommDestroy");
  find(functions->abort, "ncclCommAbort");
  find(functions->get_async_error, "ncclCommGetAsyncError");
  find(functions->error_string, "ncclGetErrorString");
  find(functions->last_error, "ncclGetLastError");
  find(functions->group_start, "ncclGroupStart");
  find(functions->group_end, "ncclGroupEnd");
  find(functions->send, "ncclSend");
  find(functions->recv, "ncclRecv");
  int version = 0;
  if (reason.empty() && functions->get_version(&version) == ncclSuccess && version < kOldest) {
    reason = Format("%s is version %s, older than %s", kLibrary, VersionText(version).c_str(),
                    VersionText(kOldest).c_str());
  }
  return reason;
}

class Nccl : public NcclApi {
 public:
  explicit Nccl(const Functions& functions) : f_(functions) {}
  ~Nccl() override {
    if (comm_) Note(f_.destroy(comm_), "ncclCommDestroy");
  }

  std::string UniqueId() override {
    ncclUniqueId id;
    Note(f_.get_unique_id(&id), "ncclGetUniqueId");
    CHECK_EQ(failed_, ncclSuccess) << ErrorText();
    return std::string(id.internal, sizeof(id.internal));
  }
  void Init(const std::string& unique_id, int rank, int size) override {
    ncclUniqueId id;
    CHECK_EQ(unique_id.size(), sizeof(id.internal));
    std::memcpy(id.internal, unique_id.data(), sizeof(id.internal));
    // A communicator that does not block would start a thread for the launch of every group.
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 1;
    Note(f_.init(&comm_, size, id, rank, &config), "ncclCommInitRankConfig");
  }

  void GroupStart() override { Note(f_.group_start(), "ncclGroupStart"); }
  void Send(const void* data, int64_t bytes, int peer, void* queue) override {
    Note(f_.send(data, static_cast<size_t>(bytes), ncclInt8, peer, comm_, static_cast<cudaStream_t>(queue)),
         "ncclSend");
  }
  void Recv(void* data, int64_t bytes, int peer, void* queue) override {
    Note(f_.recv(data, static_cast<size_t>(bytes), ncclInt8, peer, comm_, static_cast<cudaStream_t>(queue)),
         "ncclRecv");
  }
  void GroupEnd() override { Note(f_.group_end(), "ncclGroupEnd"); }

  bool HasFailed() override {
    if (failed_ == ncclSuccess && comm_) {
      ncclResult_t state = ncclSuccess;
      Note(f_.get_async_error(comm_, &state), "ncclCommGetAsyncError");
      Note(state, "an asynchronous operation");
    }
    return failed_ != ncclSuccess;
  }
  std::string ErrorText() override {
    const char* details = f_.last_error(comm_);
    return Format("%s: %s%s%s", where_, f_.error_string(failed_), details && *details ? "; " : "",
                  details ? details : "");
  }

  void Finalize() override { Note(f_.finalize(comm_), "ncclCommFinalize"); }
  void Abort() override {
    f_.abort(comm_);  // frees it
    comm_ = nullptr;
  }

 private:
  void Note(ncclResult_t result, const char* where) {
    if (result == ncclSuccess || result == ncclInProgress || failed_ != ncclSuccess) return;
    failed_ = result;
    where_ = where;
  }
  const Functions f_;
  ncclComm_t comm_ = nullptr;
  ncclResult_t failed_ = ncclSuccess;  // the first failure
  const char* where_ = "";
};

}  // namespace

std::string NcclProblem() {
  Functions functions;
  return Load(&functions);
}

std::string NcclVersion() {
  Functions functions;
  int version = 0;
  if (Load(&functions).empty()) functions.get_version(&version);
  return VersionText(version);
}

std::unique_ptr<NcclApi> OpenNccl() {
  Functions functions;
  if (const std::string problem = Load(&functions); !problem.empty()) {
    throw UserError("NCCL was asked for, but " + problem +
                    "; install it, name its folder in LD_LIBRARY_PATH, or set parallel.transport to AUTO");
  }
  return std::make_unique<Nccl>(functions);
}

}  // namespace unipool
