// The options that a tool declared, as a table: parsing, --help and documentation all read it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/options.h"

namespace april::cli {

struct OptionRow {
  std::string section;
  std::string short_name;    ///< "s", or empty
  std::string name;          ///< "store"
  std::string value_name;    ///< "FILE"; empty for flags
  std::string default_text;  ///< empty: none
  std::string help;
  std::vector<std::string> choices;
  bool is_flag = false, is_argument = false, required = false, repeated = false;
  bool flag_default = false;
  /// Stores the text in the option's variable. Throws Usage, naming the seen and the expected value.
  std::function<void(const std::vector<std::string>& texts)> store;
};

class OptionTable final : public OptionsVisitor {
 public:
  const std::vector<OptionRow>& rows() const { return rows_; }

  void Section(const char* title) override { section_ = title; }
  void Flag(const char* name, bool* value, const char* help) override;
  void Text(const char* name, std::string* value, const char* value_name, const char* help) override;
  void Choice(const char* name, std::string* value, std::vector<std::string> choices, const char* help) override;
  void Integer(const char* name, int64_t* value, int64_t min, int64_t max, const char* help) override;
  void Real(const char* name, double* value, double min, double max, const char* help) override;
  void Bytes(const char* name, uint64_t* value, const char* help) override;
  void Texts(const char* name, std::vector<std::string>* values, const char* value_name, const char* help) override;
  void Argument(const char* name, std::string* value, bool required, const char* help) override;
  void Arguments(const char* name, std::vector<std::string>* values, bool required, const char* help) override;

 private:
  OptionRow& Add(const char* name, const char* value_name, const char* help);

  std::string section_;
  std::vector<OptionRow> rows_;
};

/// "4096", "4k", "2M" (powers of 1000). Throws Usage.
int64_t ParseInteger(const std::string& option, const std::string& text, int64_t min, int64_t max);
/// "4096", "64MiB", "1GB". Throws Usage.
uint64_t ParseBytes(const std::string& option, const std::string& text);

}  // namespace april::cli
