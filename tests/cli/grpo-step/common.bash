# Claims of four steps for the tiny model: the third has no gradient, the fourth an error among its rewards. Sourced by the scripts beside it.
model=$APRIL_SOURCE/tests/data/tiny-model
write_claims() { APRIL_CLAIMS=$1 unit_grpo '[.claims]' >/dev/null; }

# fails MESSAGE-PATTERN EXIT COMMAND...: the command must end with that exit code and say so on stderr.
fails() {
  local pattern=$1 expected=$2 status=0
  shift 2
  "$@" 2>stderr || status=$?
  [ $status -eq "$expected" ] || { echo "exit $status instead of $expected: $*"; cat stderr; exit 1; }
  grep -q -- "$pattern" stderr || { echo "no '$pattern' on stderr of $*:"; cat stderr; exit 1; }
}
expect() { [ "$1" = "$2" ] || { echo "$3: '$1', expected '$2'"; exit 1; }; }
train() { local dir=$1; shift; grpo-step --from "$dir/checkpoints" --publish "$dir/weights" --lr 1e-3 --checkpoint-every 3 --keep-versions 9 "$@"; }
weights() { cat "$1/weights/v0000000$2/model.safetensors"; }
