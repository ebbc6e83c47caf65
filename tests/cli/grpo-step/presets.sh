# README's table of presets says what each sets, for every preset there is.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
table() { sed -nE 's/^\| `([a-z]+)` \| `(--advantage [^`]+)` \|$/\1 \2/p' "$APRIL_SOURCE/README.md"; }
fails 'is not one of' 2 grpo-step --preset nosuch
known=$(sed -nE 's/.*is not one of ([a-z, ]+)$/\1/p' stderr | tr -d ,)
expect "none $(table | cut -d' ' -f1 | xargs)" "$known" "presets in README"
table | while read -r preset options; do
  fails 'no --model' 2 grpo-step --preset "$preset" --from none --publish none </dev/null  # not the rest of the table
  expect "$(sed -n "s/^grpo-step: --preset $preset sets //p" stderr)" "$options" "what README says of --preset $preset"
done
