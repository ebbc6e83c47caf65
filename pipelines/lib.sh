# Sourced by the pipelines: where the programs are, how to say things.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(dirname "$here")
me=$(basename "$0" .sh)

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { local code=$1; shift; say "error: $*"; exit "$code"; }

# The programs: APRIL_BIN's or the build folder's, else those on PATH (an installed april).
bin=${APRIL_BIN:-$source_dir/build/release/bin}
if [ -x "$bin/partial-buffer" ]; then PATH=$bin:$PATH; fi
need_programs() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || die 2 "$program is not built; run: cmake --preset release && cmake --build --preset release"
  done
}

# value_of KEY FILE: that key's number on every line of a file of JSON objects, one a line; "nan" where it is missing. MAP.KEY: a number of a map in it.
value_of() {
  awk -v key="$1" '
    BEGIN { parts = split(key, name, ".") }
    { rest = $0
      for (i = 1; i <= parts; i++) {
        at = index(rest, "\"" name[i] "\":")
        if (!at) { print "nan"; next }
        rest = substr(rest, at + length(name[i]) + 3)
        if (i < parts) rest = substr(rest, 1, index(rest, "}"))
      }
      match(rest, /^ *[-+0-9.eE]+/)
      print (RLENGTH > 0 ? substr(rest, 1, RLENGTH) + 0 : "nan") }' "$2"
}

# now: seconds since the epoch, with milliseconds.
now() { date +%s.%3N; }
