// Plays libcupti's part where there is no GPU: gives made-up records when it is flushed, over two buffers.
//   FAKE_CUPTI=refuse     activities can not be recorded      FAKE_CUPTI=drop       three records are lost
//   FAKE_CUPTI=flush      the last records can not be had
#include <cupti.h>

#include <cstdlib>
#include <cstring>
#include <ctime>
#include <set>
#include <string>

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

CUpti_BuffersCallbackRequestFunc request_buffer;
CUpti_BuffersCallbackCompleteFunc buffer_completed;
std::set<CUpti_ActivityKind> enabled;

bool Plays(const char* part) {
  const char* asked = std::getenv("FAKE_CUPTI");
  return asked && std::string(asked) == part;
}

size_t SizeOf(CUpti_ActivityKind kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
      return sizeof(KernelRecord);
    case CUPTI_ACTIVITY_KIND_MEMCPY:
      return sizeof(CopyRecord);
    case CUPTI_ACTIVITY_KIND_MEMSET:
      return sizeof(CUpti_ActivityMemset4);
    default:
      return sizeof(OverheadRecord);
  }
}

template <typename Record>
uint8_t* Put(uint8_t* to, CUpti_ActivityKind kind, Record record) {
  if (!enabled.count(kind)) return to;
  record.kind = kind;
  std::memcpy(to, &record, sizeof(record));
  return to + sizeof(record);
}

template <typename Record>
Record At(uint64_t start, uint64_t end, uint32_t stream) {
  Record record{};
  record.deviceId = 3;
  record.contextId = 5;
  record.streamId = stream;
  record.start = start;
  record.end = end;
  return record;
}

void Deliver(bool is_first) {
  uint8_t* buffer = nullptr;
  size_t bytes = 0, most = 0;
  request_buffer(&buffer, &bytes, &most);
  uint8_t* end = buffer;
  if (is_first) {
    auto kernel = At<KernelRecord>(1000, 2000, 13);
    kernel.name =
        "_ZN7unipool4cuda50_GLOBAL__N__e39a74d8_17_row_order_cuda_cu_6cf8e6b910ScanKernelENS1_9ArgumentsE";
    end = Put(end, CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, kernel);
    auto copy = At<CopyRecord>(2100, 2200, 13);
    copy.copyKind = CUPTI_ACTIVITY_MEMCPY_KIND_DTOH;
    copy.bytes = 2048;
    end = Put(end, CUPTI_ACTIVITY_KIND_MEMCPY, copy);
  } else {
    auto set = At<CUpti_ActivityMemset4>(2300, 2350, 14);
    set.bytes = 64;
    end = Put(end, CUPTI_ACTIVITY_KIND_MEMSET, set);
    auto kernel = At<KernelRecord>(40000, 90000, 13);
    kernel.name = "a kernel\twith a tab";
    end = Put(end, CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, kernel);
    OverheadRecord overhead{};
    overhead.overheadKind = CUPTI_ACTIVITY_OVERHEAD_CUPTI_BUFFER_FLUSH;
    overhead.start = 5000;
    overhead.end = 6000;
    end = Put(end, CUPTI_ACTIVITY_KIND_OVERHEAD, overhead);
  }
  buffer_completed(nullptr, 0, buffer, bytes, end - buffer);
}

}  // namespace

extern "C" {

CUptiResult CUPTIAPI cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc request,
                                                    CUpti_BuffersCallbackCompleteFunc completed) {
  request_buffer = request;
  buffer_completed = completed;
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityEnable(CUpti_ActivityKind kind) {
  enabled.insert(kind);
  return Plays("refuse") ? CUPTI_ERROR_INSUFFICIENT_PRIVILEGES : CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityFlushAll(uint32_t) {
  if (Plays("flush")) return CUPTI_ERROR_NOT_INITIALIZED;
  Deliver(true);
  Deliver(false);
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityGetNextRecord(uint8_t* buffer, size_t valid_bytes,
                                                CUpti_Activity** record) {
  uint8_t* next = buffer;
  if (*record) next = reinterpret_cast<uint8_t*>(*record) + SizeOf((*record)->kind);
  if (next >= buffer + valid_bytes) return CUPTI_ERROR_MAX_LIMIT_REACHED;
  *record = reinterpret_cast<CUpti_Activity*>(next);
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityGetNumDroppedRecords(CUcontext, uint32_t, size_t* dropped) {
  static bool is_told = false;
  *dropped = Plays("drop") && !is_told ? 3 : 0;
  is_told = true;
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiGetTimestamp(uint64_t* now) {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  *now = uint64_t(time.tv_sec) * 1000000000 + time.tv_nsec;
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiGetResultString(CUptiResult result, const char** text) {
  *text =
      result == CUPTI_ERROR_INSUFFICIENT_PRIVILEGES ? "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES" : "another error";
  return CUPTI_SUCCESS;
}

}  // extern "C"
