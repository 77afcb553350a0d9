#pragma once
#include <memory>

#include "runtime/device_context.h"
namespace unipool {
std::unique_ptr<DeviceContext> MakeCudaContext(int local_rank);
}
