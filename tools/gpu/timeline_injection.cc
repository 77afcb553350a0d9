// libunipool_timeline.so: records the time line of any CUDA program, without a change to the program and
// without a profiler. Variables of its environment:
//
//   CUDA_INJECTION64_PATH=LIBRARY    this library: CUDA loads it and calls InitializeInjection
//   NVTX_INJECTION64_PATH=LIBRARY    this library too: the program's NVTX ranges are recorded
//   UNIPOOL_TIMELINE=FILE            where to (timeline_file.h); %p stands for the process
//   UNIPOOL_CUPTI=LIBRARY            libcupti, where the loader and the toolkit's folders have none
//
// What keeps it from recording is one sentence on standard error, and the program goes on.
#include <cupti.h>
#include <dlfcn.h>
#include <nvtx3/nvToolsExt.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "tools/gpu/timeline_file.h"

namespace unipool {
namespace {

#if CUPTI_API_VERSION >= 130000
using KernelRecord = CUpti_ActivityKernel10;
using CopyRecord = CUpti_ActivityMemcpy6;
using OverheadRecord = CUpti_ActivityOverhead3;
#else
using KernelRecord = CUpti_ActivityKernel9;
using CopyRecord = CUpti_ActivityMemcpy5;
using OverheadRecord = CUpti_ActivityOverhead;
#endif
using SetRecord = CUpti_ActivityMemset4;

constexpr size_t kBufferBytes = size_t{4} << 20;
constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY,
                                         CUPTI_ACTIVITY_KIND_MEMSET, CUPTI_ACTIVITY_KIND_OVERHEAD};

void Say(const std::string& what) {
  std::fprintf(stderr, "unipool timeline: %s; nothing is recorded\n", what.c_str());
}

// The functions of CUPTI that are used.
struct Cupti {
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityFlushAll) flush_all = nullptr;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&cuptiActivityGetNumDroppedRecords) num_dropped = nullptr;
  decltype(&cuptiGetTimestamp) timestamp = nullptr;
  decltype(&cuptiGetResultString) result_string = nullptr;

  std::string Open();  // why it could not be, or empty
  std::string Text(CUptiResult result) const {
    const char* text = nullptr;
    return result_string(result, &text) == CUPTI_SUCCESS && text ? text : std::to_string(result);
  }

 private:
  template <typename Function>
  bool Find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function != nullptr;
  }
};

std::string Cupti::Open() {
  const std::string name = "libcupti.so." + std::to_string(CUDA_VERSION / 1000);
  std::vector<std::string> places = {name, "/usr/local/cuda/lib64/" + name,
                                     "/usr/local/cuda/extras/CUPTI/lib64/" + name};
  const char* named = std::getenv("UNIPOOL_CUPTI");
  if (named && *named) places = {named};
  void* library = nullptr;
  for (const std::string& place : places) {
    library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library) break;
  }
  if (!library && named && *named) {
    return "UNIPOOL_CUPTI=" + std::string(named) + " can not be opened: " + dlerror();
  }
  if (!library) {
    return name +
           " was found neither by the loader nor in /usr/local/cuda; install it or name it in UNIPOOL_CUPTI";
  }
  const bool has_all =
      Find(library, "cuptiActivityRegisterCallbacks", register_callbacks) &&
      Find(library, "cuptiActivityEnable", enable) && Find(library, "cuptiActivityFlushAll", flush_all) &&
      Find(library, "cuptiActivityGetNextRecord", next_record) &&
      Find(library, "cuptiActivityGetNumDroppedRecords", num_dropped) &&
      Find(library, "cuptiGetTimestamp", timestamp) && Find(library, "cuptiGetResultString", result_string);
  return has_all ? "" : "the libcupti that was opened lacks functions of version " + name;
}

// One a process; lives until its end, which CUPTI's own thread may outlast.
class Recorder {
 public:
  // Null: it can not record, which was said.
  static Recorder* Get() {
    static Recorder* const recorder = Start();
    return recorder;
  }

  // Both return the depth of the range, 0 outermost; -1: none is open.
  int PushRange(const char* name) {
    open_ranges().push_back({Now(), name ? name : ""});
    return static_cast<int>(open_ranges().size()) - 1;
  }
  int PopRange() {
    if (open_ranges().empty()) return -1;
    const OpenRange& range = open_ranges().back();
    static thread_local const int64_t thread = syscall(SYS_gettid);
    file_->WriteRange(thread, range.start, Now(), range.name.c_str());
    open_ranges().pop_back();
    return static_cast<int>(open_ranges().size());
  }

 private:
  struct OpenRange {
    uint64_t start;
    std::string name;
  };
  static std::vector<OpenRange>& open_ranges() {
    static thread_local std::vector<OpenRange> ranges;
    return ranges;
  }

  static Recorder* Start();
  static void Finish();  // at the end of the process
  static void CUPTIAPI OnBufferRequested(uint8_t** buffer, size_t* bytes, size_t* most_records);
  static void CUPTIAPI OnBufferCompleted(CUcontext context, uint32_t stream, uint8_t* buffer, size_t bytes,
                                         size_t valid_bytes);
  void Write(const CUpti_Activity& record);
  uint64_t Now() const {
    uint64_t now = 0;
    cupti_.timestamp(&now);
    return now;
  }

  static Recorder* active_;
  Cupti cupti_;
  std::unique_ptr<TimelineFile> file_;
  std::atomic<int64_t> num_dropped_ = 0;
};
Recorder* Recorder::active_ = nullptr;

Recorder* Recorder::Start() {
  const char* path = std::getenv("UNIPOOL_TIMELINE");
  if (!path || !*path) {
    Say("UNIPOOL_TIMELINE names no file to record into");
    return nullptr;
  }
  auto recorder = std::make_unique<Recorder>();
  Cupti& cupti = recorder->cupti_;
  if (const std::string why = cupti.Open(); !why.empty()) {
    Say(why);
    return nullptr;
  }
  recorder->file_ = std::make_unique<TimelineFile>(path);
  if (!recorder->file_->is_open()) {
    Say("UNIPOOL_TIMELINE: " + recorder->file_->path() + " can not be written: " + std::strerror(errno));
    return nullptr;
  }
  active_ = recorder.release();  // from here on CUPTI may call
  CUptiResult result = cupti.register_callbacks(OnBufferRequested, OnBufferCompleted);
  for (const CUpti_ActivityKind kind : kKinds) {
    if (result == CUPTI_SUCCESS) result = cupti.enable(kind);
  }
  if (result != CUPTI_SUCCESS) {
    Say("CUPTI does not record here: " + cupti.Text(result));
    std::remove(active_->file_->path().c_str());
    return nullptr;
  }
  std::atexit(Finish);
  return active_;
}

void Recorder::Finish() {
  Recorder& recorder = *active_;
  const CUptiResult result = recorder.cupti_.flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  if (result != CUPTI_SUCCESS) {
    std::fprintf(stderr, "unipool timeline: the last records were lost: %s\n",
                 recorder.cupti_.Text(result).c_str());
    ++recorder.num_dropped_;
  }
  if (!recorder.file_->Close(recorder.num_dropped_)) {
    std::fprintf(stderr, "unipool timeline: %s is not complete: it could not be written to its end\n",
                 recorder.file_->path().c_str());
  }
}

void CUPTIAPI Recorder::OnBufferRequested(uint8_t** buffer, size_t* bytes, size_t* most_records) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(8, kBufferBytes));
  *bytes = *buffer ? kBufferBytes : 0;
  *most_records = 0;  // as many as there is room for
}

void CUPTIAPI Recorder::OnBufferCompleted(CUcontext context, uint32_t stream, uint8_t* buffer, size_t,
                                          size_t valid_bytes) {
  Recorder& recorder = *active_;
  CUpti_Activity* record = nullptr;
  while (valid_bytes > 0 && recorder.cupti_.next_record(buffer, valid_bytes, &record) == CUPTI_SUCCESS) {
    recorder.Write(*record);
  }
  size_t dropped = 0;
  if (recorder.cupti_.num_dropped(context, stream, &dropped) == CUPTI_SUCCESS) {
    recorder.num_dropped_ += static_cast<int64_t>(dropped);
  }
  std::free(buffer);
}

template <typename Record>
struct Placed {
  const Record& of;
  int64_t place[3];
  explicit Placed(const CUpti_Activity& record)
      : of(reinterpret_cast<const Record&>(record)), place{of.deviceId, of.contextId, of.streamId} {}
};

void Recorder::Write(const CUpti_Activity& record) {
  switch (record.kind) {
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
      const Placed<KernelRecord> kernel(record);
      return file_->WriteKernel(kernel.place, kernel.of.start, kernel.of.end, kernel.of.name);
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
      const Placed<CopyRecord> copy(record);
      return file_->WriteCopy(copy.place, copy.of.start, copy.of.end, copy.of.copyKind, copy.of.bytes);
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
      const Placed<SetRecord> set(record);
      return file_->WriteSet(set.place, set.of.start, set.of.end, set.of.bytes);
    }
    case CUPTI_ACTIVITY_KIND_OVERHEAD: {
      const auto& overhead = reinterpret_cast<const OverheadRecord&>(record);
      return file_->WriteOverhead(overhead.overheadKind, overhead.start, overhead.end);
    }
    default:
      return;
  }
}

// What NVTX calls from then on.
int NVTX_API OnPush(const char* name) {
  return Recorder::Get()->PushRange(name);
}
int NVTX_API OnPop() {
  return Recorder::Get()->PopRange();
}

}  // namespace
}  // namespace unipool

// Called by CUDA when the program first uses it.
extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
  unipool::Recorder::Get();
  return 1;
}

// Called by the program's first NVTX range.
extern "C" __attribute__((visibility("default"))) int InitializeInjectionNvtx2(
    NvtxGetExportTableFunc_t get_table) {
  if (!unipool::Recorder::Get()) return 0;
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned size = 0;
  if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size) ||
      size <= NVTX_CBID_CORE_RangePop) {
    return 0;
  }
  *table[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(unipool::OnPush);
  *table[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(unipool::OnPop);
  return 1;
}
