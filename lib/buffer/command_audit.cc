// audit: the journal's accounts, and whether they balance.
#include <cinttypes>
#include <cstdio>

#include "base/error.h"
#include "base/json.h"
#include "base/printing.h"
#include "buffer/audit.h"
#include "buffer/look_commands.h"
#include "buffer/printed_lines.h"

namespace april::buffer {
namespace {

std::string Row(const char* name, const Account& account, const std::string& note = "") {
  char row[96];
  std::snprintf(row, sizeof row, "%-11s %12" PRId64 " %14" PRId64, name, account.rollouts, account.tokens);
  return row + (note.empty() ? "" : "   " + note) + "\n";
}

std::string Table(const Accounts& accounts) {
  std::string reasons;
  for (const auto& [why, account] : accounts.dropped) {
    if (account.rollouts > 0) reasons += (reasons.empty() ? "" : ", ") + why + " " + std::to_string(account.rollouts);
  }
  return std::string("                rollouts         tokens\n") + Row("journaled", accounts.journaled) + Row("trained", accounts.trained) +
         Row("held", accounts.held) + Row("dropped", accounts.Dropped(), Printable(reasons)) +
         Row("superseded", accounts.superseded, accounts.superseded.rollouts > 0 ? "late records" : "");
}

Json ToJson(const Account& account) { return {{"rollouts", account.rollouts}, {"tokens", account.tokens}}; }

Json ToJson(const AuditReport& report) {
  Json dropped = Json::object();
  for (const auto& [why, account] : report.accounts.dropped) dropped[why] = ToJson(account);
  Json findings = Json::array();
  for (const Finding& finding : report.findings.kept)
    findings.push_back({{"where", finding.where}, {"what", finding.what}, {"repair", finding.remedy}});
  return {{"clean", report.Clean()},
          {"journaled", ToJson(report.accounts.journaled)},
          {"trained", ToJson(report.accounts.trained)},
          {"held", ToJson(report.accounts.held)},
          {"dropped", ToJson(report.accounts.Dropped())},
          {"dropped_for", std::move(dropped)},
          {"superseded", ToJson(report.accounts.superseded)},
          {"claims", report.claims},
          {"commits", report.commits},
          {"entries", report.entries},
          {"frames", report.frames},
          {"torn_bytes", report.torn_bytes},
          {"findings", std::move(findings)}};
}

}  // namespace

void RunAudit(const AuditOptions& options, Invocation&) {
  const AuditReport report = Audit(SystemFiles(), options.store.store);
  if (options.json) {
    PrintOut(ToJson(report).dump() + "\n");
  } else {
    PrintOut(Table(report.accounts) + FindingsText(report.findings));
  }
  if (!report.Clean()) throw NotSound(options.store.store, report.findings);
  if (options.json) return;
  PrintOut("clean: journaled = trained + held + dropped + superseded; " + Count(static_cast<int64_t>(report.claims), "claim") + ", " +
           Count(static_cast<int64_t>(report.commits), "commit") + "; " + std::to_string(report.entries) + " entries in " +
           Count(static_cast<int64_t>(report.frames), "transaction") +
           (report.torn_bytes == 0 ? "" : "; " + std::to_string(report.torn_bytes) + " bytes of an unfinished one") + "\n");
}

}  // namespace april::buffer
