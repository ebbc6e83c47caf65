#include "base/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"

namespace april {
namespace {

constexpr uint64_t kUnknown = std::numeric_limits<uint64_t>::max();

/// A file's first number; nullopt when there is none ("max", no such file).
std::optional<uint64_t> NumberIn(const std::string& path) {
  std::ifstream file(path);
  uint64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

/// The number behind a word at the begin of a line.
std::optional<uint64_t> NumberOf(const std::string& path, const std::string& word) {
  std::ifstream file(path);
  for (std::string name, rest; file >> name; std::getline(file, rest)) {
    uint64_t number = 0;
    if (name == word && file >> number) return number;
    file.clear();
  }
  return std::nullopt;
}

/// The names that one version of control groups gives to its files.
struct Names {
  const char *limit, *usage, *droppable;
};
constexpr Names kVersion1 = {"/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file"};
constexpr Names kVersion2 = {"/memory.max", "/memory.current", "inactive_file"};

/// What the limits of `path` below `root` and of all groups above it leave. In a container `path` may be the host's, of which only the root is seen.
uint64_t LeftBelowLimits(const std::string& root, std::string path, const Names& names) {
  uint64_t left = kUnknown;
  for (;;) {
    while (path.ends_with('/')) path.pop_back();
    const std::string group = root + path;
    if (const auto limit = NumberIn(group + names.limit)) {
      const uint64_t usage = NumberIn(group + names.usage).value_or(0), droppable = NumberOf(group + "/memory.stat", names.droppable).value_or(0);
      const uint64_t used = usage - std::min(usage, droppable);
      left = std::min(left, *limit - std::min(*limit, used));
    }
    if (path.empty()) return left;
    path.erase(path.find_last_of('/'));
  }
}

}  // namespace

uint64_t AvailableMemoryBytes(const std::string& proc, const std::string& cgroups) {
  const auto machine_kibibytes = NumberOf(proc + "/meminfo", "MemAvailable:");
  uint64_t available = machine_kibibytes ? *machine_kibibytes << 10 : kUnknown;
  std::ifstream groups(proc + "/self/cgroup");  // lines of hierarchy:controllers:path
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",", path = line.substr(second + 1);
    if (controllers == ",,") {
      available = std::min(available, LeftBelowLimits(cgroups, path, kVersion2));
      available = std::min(available, LeftBelowLimits(cgroups + "/unified", path, kVersion2));
    } else if (controllers.find(",memory,") != std::string::npos) {
      available = std::min(available, LeftBelowLimits(cgroups + "/memory", path, kVersion1));
    }
  }
  return available;
}

void RequireMemory(uint64_t bytes, const std::string& what, const std::string& hint) {
  const uint64_t available = AvailableMemoryBytes();
  if (bytes <= available) return;
  throw Error::Runtime(what + " needs " + HumanBytes(bytes) + " of memory, and " + HumanBytes(available) + " is available", hint);
}

}  // namespace april
