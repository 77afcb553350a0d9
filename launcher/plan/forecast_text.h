// A forecast as a text for people and as JSON, with the same numbers.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "launcher/plan/forecast.h"

namespace unipool {

// Keys: see PLAN.md, "The JSON".
nlohmann::json ForecastJson(const Forecast& forecast, const Cluster& cluster,
                            const std::vector<Sensitivity>& sensitivities);
// `calibrated`: the first line says where a rate is of a data sheet or assumed.
std::string ForecastText(const Forecast& forecast, const Cluster& cluster,
                         const std::vector<Sensitivity>& sensitivities);
// "not calibrated: ...", or "" where every wire and rate of the cluster was measured.
std::string CalibrationText(const Cluster& cluster);
// "0.123 s", "4.56 ms".
std::string SecondsText(double seconds);

}  // namespace unipool
