#include "grpo/replay.h"

#include <optional>

#include "base/bytes.h"
#include "base/error.h"

namespace april::grpo {

std::string ReplayStep(Session& session, ClaimReader& reader, int64_t step, const std::function<void(const StepReport&)>& on_step) {
  const std::string name = "step " + std::to_string(step),
                    command = "`partial-buffer claim -s DIR --replay " + std::to_string(step) + " --checkpoints DIR`";
  std::string verdict;
  while (const auto claim = reader.Next()) {
    if (claim->step < session.step() || claim->step > step) continue;  // in the checkpoint, or beyond what was asked for
    StepReport report;
    const std::optional<std::string> records = session.Replay(*claim, &report);
    on_step(report);
    if (claim->step < step) continue;
    const std::string weights = "weights " + HexU64(report.step.weights);
    if (!records) {
      throw Error::NotReady(name + " gives " + weights +
                                ", and nothing tells what it became: its claim is not committed, its version is not "
                                "published, and no checkpoint was written behind it",
                            "commit the step, then feed this from " + command);
    }
    verdict = name + ": equal in every bit: version " + std::to_string(report.step.version) + ", " + weights + "; compared with " + *records;
  }
  record::RequireGoodEnd(reader.end_status());
  if (verdict.empty()) {
    throw Error::Data("the claims end before step " + std::to_string(session.step()) + ", which is needed to come to " + name,
                      command + " gives what is needed");
  }
  return verdict;
}

}  // namespace april::grpo
