// Tells whether two processes see the same data, by a few reads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/config.pb.h"

namespace unipool {

// One line for each file of a data source (PREFIX.idx and PREFIX.bin, or a text file): name, bytes, and the
// hash of 64 blocks of 4 KiB spread over it, the first and the last among them. "absent" for a file that
// cannot be read.
std::vector<std::string> DescribeDataFiles(const std::string& source);

// The same of all sources of data.train and data.valid. What is wrong with a source stands in its place.
std::vector<std::string> DescribeData(const Config& config);

// The hash of these blocks of an open file of so many bytes. What cannot be read counts as zeros.
uint64_t PrintOfFile(int file, int64_t bytes);

}  // namespace unipool
