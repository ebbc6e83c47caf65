"""Writes nfc_table.cc from Python's own Unicode data: python3 lib/text/make_nfc_table.py > lib/text/nfc_table.cc"""
import sys
import unicodedata as u

HANGUL = range(0xAC00, 0xD7A4)  # composed by arithmetic


def rows(items, per_row):
    return "\n".join("    " + " ".join(items[i:i + per_row]) for i in range(0, len(items), per_row))


decompositions = []
for code in range(sys.maxunicode + 1):
    parts = u.decomposition(chr(code))
    if not parts or parts.startswith("<") or code in HANGUL:
        continue
    pair = [int(p, 16) for p in parts.split()] + [0]
    composes = int(len(pair) == 3 and u.normalize("NFC", chr(code)) == chr(code))
    decompositions.append(f"{{{code:#x}, {pair[0]:#x}, {pair[1]:#x}, {composes}}},")

classes, start = [], None
for code in range(sys.maxunicode + 2):
    value = u.combining(chr(code)) if code <= sys.maxunicode else 0
    if start is not None and value != start[1]:
        classes.append(f"{{{start[0]:#x}, {code - 1:#x}, {start[1]}}},")
        start = None
    if value and start is None:
        start = (code, value)

print(f"""// Made by make_nfc_table.py from Unicode {u.unidata_version}.
#include "text/nfc.h"

namespace april::text {{

// Character, its canonical decomposition (0: none), whether the pair composes again. Ascending. Hangul syllables are left to arithmetic.
const NfcDecomposition kNfcDecompositions[] = {{
{rows(decompositions, 6)}
}};
const size_t kNumNfcDecompositions = {len(decompositions)};

// First and last character of a range, its combining class. Ascending; what is in no range has class 0.
const NfcClass kNfcClasses[] = {{
{rows(classes, 8)}
}};
const size_t kNumNfcClasses = {len(classes)};

}}  // namespace april::text""")
