// A forecast as one page that needs no network: where the step goes, what each stage does meanwhile, what
// more ranks would give.
#pragma once

#include <string>

#include "launcher/plan/forecast.h"

namespace unipool {

std::string ForecastHtml(const Forecast& forecast, const Config& config, int ranks, const Cluster& cluster,
                         const RowsFound& rows);

}  // namespace unipool
