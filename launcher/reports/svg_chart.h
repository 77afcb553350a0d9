// A chart as an SVG picture.
#pragma once

#include <string>

#include "launcher/reports/chart.h"

namespace unipool {

// A whole file, 800 x 480, that browsers and office programs show; higher where many curves have to be named.
// Curves have no more points than can be told apart, highest and lowest ones kept.
std::string DrawSvg(const Chart& chart);

}  // namespace unipool
