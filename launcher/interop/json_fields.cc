#include "launcher/interop/json_fields.h"

#include <cmath>
#include <limits>

namespace unipool {
namespace {

constexpr int32_t kMostWhole = std::numeric_limits<int32_t>::max();

// What stands there, short enough for a sentence.
std::string Shown(const nlohmann::json& value) {
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  constexpr size_t kMostShown = 60;
  const std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  return text.size() > kMostShown ? text.substr(0, kMostShown) + "..." : text;
}

}  // namespace

void JsonFields::AddWrong(const std::string& key, const std::string& expected) {
  Add(key, "is " + Shown(object_[key]) + "; must be " + expected);
}

int32_t JsonFields::Whole(const std::string& key, int32_t least) {
  if (Has(key)) return Whole(key, least, least);
  Add(key, Format("is missing; it must be a whole number from %d on", least));
  return least;
}

int32_t JsonFields::Whole(const std::string& key, int32_t least, int32_t otherwise) {
  if (!Has(key)) return otherwise;
  if (object_[key].is_number()) {
    const double value = object_[key].get<double>();
    if (value >= least && value <= kMostWhole && value == std::floor(value))
      return static_cast<int32_t>(value);
  }
  AddWrong(key, Format("a whole number from %d to %d", least, kMostWhole));
  return otherwise;
}

double JsonFields::Real(const std::string& key, double otherwise) {
  if (!Has(key)) return otherwise;
  if (object_[key].is_number() && std::isfinite(object_[key].get<double>()))
    return object_[key].get<double>();
  AddWrong(key, "a number");
  return otherwise;
}

bool JsonFields::Bool(const std::string& key, bool otherwise) {
  if (!Has(key)) return otherwise;
  if (object_[key].is_boolean()) return object_[key].get<bool>();
  AddWrong(key, "true or false");
  return otherwise;
}

std::string JsonFields::Text(const std::string& key, const std::string& otherwise) {
  if (!Has(key)) return otherwise;
  if (object_[key].is_string()) return object_[key].get<std::string>();
  AddWrong(key, "a text");
  return otherwise;
}

std::vector<double> JsonFields::Reals(const std::string& key) {
  std::vector<double> numbers;
  if (!Has(key)) return numbers;
  if (object_[key].is_array()) {
    for (const nlohmann::json& number : object_[key]) {
      if (number.is_number() && std::isfinite(number.get<double>())) numbers.push_back(number.get<double>());
    }
    if (numbers.size() == object_[key].size()) return numbers;
  }
  AddWrong(key, "a list of numbers");
  return {};
}

}  // namespace unipool
