// Fields of a JSON object that people or other programs wrote, each checked for its type and range. All that
// is wrong is collected, so that a user sees it at once.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/errors.h"

namespace unipool {

class JsonFields {
 public:
  // `name` of the object in messages: a path, or "PATH: rope_parameters". The object must outlive it.
  JsonFields(const nlohmann::json& object, std::string name, Problems& problems)
      : object_(object), name_(std::move(name)), problems_(problems) {}

  // Present and not null.
  bool Has(const std::string& key) const { return object_.contains(key) && !object_[key].is_null(); }

  // The value, or `otherwise` where the key is absent, null or wrong; a wrong one is a problem. Without
  // `otherwise` an absent one is a problem too. Whole numbers are from `least` to 2^31 - 1; 3.0 is one.
  int32_t Whole(const std::string& key, int32_t least = 1);
  int32_t Whole(const std::string& key, int32_t least, int32_t otherwise);
  double Real(const std::string& key, double otherwise);  // finite
  bool Bool(const std::string& key, bool otherwise);
  std::string Text(const std::string& key, const std::string& otherwise);
  std::vector<double> Reals(const std::string& key);  // finite; empty where absent

  void Add(const std::string& key, const std::string& problem) {
    problems_.Add(name_ + ": " + key + " " + problem);
  }

 private:
  void AddWrong(const std::string& key, const std::string& expected);
  const nlohmann::json& object_;
  std::string name_;
  Problems& problems_;
};

}  // namespace unipool
