# Sourced by the pipeline tests: the real model, its prompts, and checks.
set -euo pipefail
. "$APRIL_SOURCE/pipelines/lib.sh"
[ -s "${APRIL_MODEL:-}" ] || { echo "APRIL_MODEL names no model: run pipelines/get-model.sh, or this test through tests/run.sh"; exit 1; }

addition() { for a in 2 3 4 5 6 7 8 9; do for b in 2 3 4 5 6 7 8 9; do printf '{"id":"%s+%s","prompt":"What is %s + %s?","label":"%s"}\n' $a $b $a $b $((a + b)); done; done; }

fail() { echo "FAILED: $*"; exit 1; }

# every KEY FILE CONDITION: the awk condition holds for x, the key's value, on each line, and there is at least one line.
every() {
  value_of "$1" "$2" | awk "{ x = \$1; lines++; if (!($3)) { print \"line \" NR \" of $2: $1 is \" x \", expected $3\"; bad = 1 } } END { exit bad || !lines }"
}
