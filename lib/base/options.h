// How a module declares its command-line options once, without knowing the parser.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace april {

/// Receives each option with its documentation; the current value of `*value` is the documented default.
/// Names are kebab-case without dashes ("max-tokens"); `name` may be "s,store" for a short and a long form. Units are in the name or the help.
class OptionsVisitor {
 public:
  virtual ~OptionsVisitor() = default;
  virtual void Section(const char* title) = 0;  ///< heads the options that follow in --help and the man page
  virtual void Flag(const char* name, bool* value, const char* help) = 0;  ///< --name and --no-name
  virtual void Text(const char* name, std::string* value, const char* value_name, const char* help) = 0;
  virtual void Choice(const char* name, std::string* value, std::vector<std::string> choices, const char* help) = 0;
  /// Whole numbers; accepts 4k, 2M (powers of 1000) within [min, max].
  virtual void Integer(const char* name, int64_t* value, int64_t min, int64_t max, const char* help) = 0;
  virtual void Real(const char* name, double* value, double min, double max, const char* help) = 0;
  /// Sizes in bytes; accepts 64MiB, 1GB, 4096.
  virtual void Bytes(const char* name, uint64_t* value, const char* help) = 0;
  virtual void Texts(const char* name, std::vector<std::string>* values, const char* value_name, const char* help) = 0;  ///< may be given again
  /// A positional argument; `required` ones end with a usage error when missing.
  virtual void Argument(const char* name, std::string* value, bool required, const char* help) = 0;
  virtual void Arguments(const char* name, std::vector<std::string>* values, bool required, const char* help) = 0;
};

inline constexpr int64_t kNoUpperLimit = std::numeric_limits<int64_t>::max();

}  // namespace april
