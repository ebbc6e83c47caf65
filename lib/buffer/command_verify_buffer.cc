// verify: every byte, and all that is wrong with them.
#include "base/bytes.h"
#include "base/clock.h"
#include "base/printing.h"
#include "buffer/look_commands.h"
#include "buffer/printed_lines.h"
#include "buffer/verification.h"

namespace april::buffer {

void RunVerify(const VerifyCommandOptions& options, Invocation& invocation) {
  VerifyOptions how;
  how.progress = [&](uint64_t done, uint64_t total) {
    if (invocation.progress_due()) {
      invocation.progress(static_cast<double>(done), static_cast<double>(total), HumanBytes(done) + " of " + HumanBytes(total) + " verified");
    }
  };
  const VerifyReport report = Verify(SystemFiles(), SystemClock(), options.store.store, how);
  std::string text = FindingsText(report.findings);
  for (const std::string& note : report.notes) text += "note: " + Printable(note) + "\n";
  PrintOut(text);
  invocation.summary = "verified " + HumanBytes(report.bytes) + " in " + Count(static_cast<int64_t>(report.segments), "segment") + ": " +
                       Count(static_cast<int64_t>(report.frames), "frame") + ", " + std::to_string(report.entries) + " entries, " +
                       Count(static_cast<int64_t>(report.payloads), "record") + ", " + Count(static_cast<int64_t>(report.rollouts), "rollout") +
                       " read back; " + std::to_string(report.findings.count) +
                       (report.findings.count == 1 ? " thing is wrong" : " things are wrong");
  if (!report.findings.empty()) throw NotSound(options.store.store, report.findings);
}

}  // namespace april::buffer
