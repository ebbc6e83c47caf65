#include "buffer/findings.h"

#include "base/printing.h"
#include "buffer/buffer_manifest.h"

namespace april::buffer {

std::string FindingsText(const Findings& findings) {
  std::string text;
  for (const Finding& finding : findings.kept) {
    text += Printable(finding.where + ": " + finding.what) + "\n";
    if (!finding.remedy.empty()) text += "  repair would: " + Printable(finding.remedy) + "\n";
  }
  if (findings.count > findings.kept.size()) text += "… and " + std::to_string(findings.count - findings.kept.size()) + " more\n";
  return text;
}

Error NotSound(const std::string& directory, const Findings& findings) {
  const Finding& first = findings.kept.front();
  return Error::Data(directory + ": " + std::to_string(findings.count) + (findings.count == 1 ? " thing is" : " things are") +
                         " wrong, first: " + first.where + ": " + first.what,
                     RepairHint(directory));
}

}  // namespace april::buffer
