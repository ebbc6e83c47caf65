// The one error type. Exceptions end a run; expected outcomes are return values.
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace april {

/// Why a run ends; the value is the process's exit code (an interface: do not change).
enum class ErrorKind : int {
  kRuntime = 1,        ///< I/O, memory, device, numeric
  kUsage = 2,          ///< bad flag, configuration or combination; nothing was read or written
  kData = 3,           ///< corrupt or truncated input
  kIncompatible = 4,   ///< another format version, tokenizer or model
  kRejects = 5,        ///< ran to the end, but more records were rejected than allowed
  kPeer = 6,           ///< peer lost, or pipe closed downstream
  kNotReady = 7,       ///< not enough is ready yet
  kStopped = 75,       ///< stopped early on a signal, state saved; run again to continue
};

/// An error that ends the run: what failed, on which subject, value seen against expected, and a hint with the command to try next.
class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string message, std::string hint = {});

  static Error Runtime(std::string message, std::string hint = {}) { return {ErrorKind::kRuntime, std::move(message), std::move(hint)}; }
  static Error Usage(std::string message, std::string hint = {}) { return {ErrorKind::kUsage, std::move(message), std::move(hint)}; }
  static Error Data(std::string message, std::string hint = {}) { return {ErrorKind::kData, std::move(message), std::move(hint)}; }
  static Error Incompatible(std::string message, std::string hint = {}) { return {ErrorKind::kIncompatible, std::move(message), std::move(hint)}; }
  static Error Peer(std::string message, std::string hint = {}) { return {ErrorKind::kPeer, std::move(message), std::move(hint)}; }
  static Error NotReady(std::string message, std::string hint = {}) { return {ErrorKind::kNotReady, std::move(message), std::move(hint)}; }
  static Error Stopped(std::string message, std::string hint = {}) { return {ErrorKind::kStopped, std::move(message), std::move(hint)}; }
  /// There is no room on the disk: as a system call's ENOSPC.
  static Error DiskFull(std::string message, std::string hint = {});
  /// A failed system call: appends the text of `error_number` (errno).
  static Error System(std::string_view what, std::string_view subject, int error_number);

  ErrorKind kind() const { return kind_; }
  const std::string& message() const { return message_; }
  const std::string& hint() const { return hint_; }
  /// errno of the system call that failed; 0 when none did. A failed sync has none: nobody may try it again, whatever its reason.
  int error_number() const { return error_number_; }
  const char* what() const noexcept override { return message_.c_str(); }

  /// The same error with "context: " in front, e.g. "record 4812 of stdin".
  Error Within(std::string_view context) const;
  Error WithHint(std::string hint) const;

 private:
  ErrorKind kind_;
  std::string message_;
  std::string hint_;
  int error_number_ = 0;
};

/// A write found no room, on the disk or in a quota.
bool IsDiskFull(const Error& error);

}  // namespace april
