// LaTeX as plain text, as far as answers use it.
#pragma once

#include <string>

namespace april::reward {

/// "\frac{\pi}{2}" is "pi/2", "\sqrt{x+1}" is "sqrt(x+1)", "2 \cdot 3" is "2*3"; Greek letters become themselves, unknown commands vanish and their
/// arguments stay. Parts of a fraction that are more than one number or letter get parentheses; the n-th root is a power.
std::string LatexToText(const std::string& latex);

}  // namespace april::reward
