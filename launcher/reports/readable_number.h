// Numbers as people read them: three or four digits and a unit.
#pragma once

#include <cstdint>
#include <string>

namespace unipool {

// "777.9M", "2.588B", "51.2K": powers of 1000.
std::string FormatCount(int64_t count);

// "3.100 GB", "12.0 MB", "12 B": powers of 1000.
std::string FormatBytes(int64_t bytes);

// "2.50": so many digits after the point; "nan", "inf" as they are.
std::string Digits(double value, int digits);

// "8s", "3m05s", "2h07m", "3d04h". Less than 0 is "0s".
std::string FormatDuration(double seconds);

}  // namespace unipool
