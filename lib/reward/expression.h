// Arithmetic expressions with variables, compared by their values.
#pragma once

#include <string>

namespace april::reward {

/// Whether both parse and have the same value: equal to 16 digits at four fixed complex points for their variables. This stands in for symbolic
/// simplification; two expressions that differ by less are taken as equal. Read are numbers, + - * / ^ ( ), multiplication without a sign, pi, sqrt,
/// ln, and every other letter as a variable. False, as in the source of MathAnswers::Same, when the two together have more than two different letters
/// (sqrt aside), an exponent of several digits, a chain of exponents, or an exponent in brackets.
bool SameValue(const std::string& left, const std::string& right);

}  // namespace april::reward
