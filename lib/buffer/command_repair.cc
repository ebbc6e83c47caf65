// repair: a sound journal again, and everything else in lost+found.
#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "base/printing.h"
#include "buffer/audit.h"
#include "buffer/look_commands.h"
#include "buffer/printed_lines.h"
#include "buffer/repairing.h"

namespace april::buffer {
namespace {

constexpr size_t kLinesShown = 50;

std::string Text(const RepairReport& report, bool dry_run) {
  std::string text;
  for (const std::string& line : report.actions) text += line + "\n";
  if (report.actions.empty()) text += "nothing to repair\n";
  if (report.followed > 0)
    text += std::to_string(report.followed) + (report.followed == 1 ? " entry behind it still stands and " : " entries behind it still stand and ") +
            (dry_run                ? "would be"
             : report.followed == 1 ? "was"
                                    : "were") +
            " journaled again\n";
  if (!report.lost.empty()) text += Count(static_cast<int64_t>(report.lost.size()), "thing") + " behind it cannot stand any more:\n";
  for (size_t i = 0; i < std::min(report.lost.size(), kLinesShown); ++i) text += "  " + report.lost[i] + "\n";
  if (report.lost.size() > kLinesShown) text += "  … and " + std::to_string(report.lost.size() - kLinesShown) + " more\n";
  if (!report.folder.empty()) text += "everything that was moved is in " + report.folder + ", with report.txt\n";
  return text;
}

}  // namespace

void RunRepair(const RepairCommandOptions& options, Invocation& invocation) {
  RepairOptions how;
  how.dry_run = options.dry_run;
  how.take_over = options.store.take_over;
  const RepairReport report = Repair(SystemFiles(), SystemClock(), options.store.store, how);
  try {
    PrintOut(Printable(Text(report, options.dry_run)));
    FlushOut();
  } catch (const ReaderGone&) {
    // The repair stands, and the summary says so; its report is in lost+found.
  }
  if (options.dry_run) {
    invocation.summary = "nothing was changed: --dry-run";
    return;
  }
  const AuditReport audit = Audit(SystemFiles(), options.store.store);
  invocation.summary = Count(static_cast<int64_t>(report.actions.size()), "repair") + ", " + std::to_string(report.followed) +
                       (report.followed == 1 ? " entry" : " entries") + " journaled again, " + std::to_string(report.lost.size()) +
                       " lost; the accounts " + (audit.Clean() ? "balance" : "do not balance");
  if (!audit.Clean())
    throw Error::Data(options.store.store + ": the audit is not clean: " + audit.findings.kept.front().what, "run audit to see all of it");
}

}  // namespace april::buffer
