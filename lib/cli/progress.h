// One line of progress on stderr, with time left where the end is known.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace april::cli {

class Progress {
 public:
  enum class Mode {
    kNever,
    kTerminal,  ///< rewritten in place, at most 6 times a second, erased at the end
    kPlain,     ///< a line each 30 s, for logs
  };
  explicit Progress(Mode mode);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total` (0 = unknown) units; `text` says what a person wants to see: "412 tokens/s, 37 in flight". Cheap: may be called in a hot loop.
  void Update(double done, double total, const std::string& text);
  /// Whether the next Update would show anything: lets a hot loop skip making the text.
  bool Due() const;
  void Erase();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace april::cli
