// The keys of one object of a simulation profile: typed, and none passed over.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"

namespace april::rollout {

/// Everything throws Usage naming object and key, what it is and what is expected.
class JsonFields {
 public:
  /// Both live as long as this. `name`: of the object, for messages; empty for the outermost one.
  JsonFields(const Json& json, std::string name);

  bool Has(const char* key) const { return json_.contains(key); }
  const Json& At(const char* key);
  std::string Text(const char* key);
  double Number(const char* key);
  double Number(const char* key, double otherwise) { return Has(key) ? Number(key) : otherwise; }
  int64_t Integer(const char* key);
  int64_t Integer(const char* key, int64_t otherwise) { return Has(key) ? Integer(key) : otherwise; }
  std::vector<double> Numbers(const char* key);
  std::vector<int64_t> Integers(const char* key);
  /// After all that is known was read.
  void RefuseOthers() const;

 private:
  std::string PathOf(const std::string& key) const { return name_.empty() ? key : name_ + ": " + key; }

  const Json& json_;
  std::string name_;
  std::set<std::string> read_;
};

/// A finite number. `what` names it in the message.
double ToNumber(const Json& json, const std::string& what);
int64_t ToInteger(const Json& json, const std::string& what);

}  // namespace april::rollout
