# A small buffer, and a pretended generator and trainer (tests/unit/buffer/pretenders.cc). Sourced by the scripts beside it.
model=$APRIL_SOURCE/tests/data/tiny-model
export APRIL_PRETEND=1 APRIL_CHECKPOINTS=checkpoints APRIL_STORE=b

prompts() { for ((i = 0; i < $1; ++i)); do echo "{\"id\":\"q$i\",\"prompt\":\"What is $i?\",\"label\":\"$i\"}"; done; }
# make COUNT [OPTIONS...]: a buffer b with that many prompts; 2 groups of 4 a step, 16 in flight
make() {
  prompts "$1" >prompts.jsonl
  partial-buffer init -q -s b --model "$model" --group-size 4 --groups-per-step 2 --in-flight 16 --max-tokens 64 --retain-steps 1000 --seed 1 "${@:2}"
  partial-buffer add -q -s b --prompts prompts.jsonl
}
generate() { unit_buffer '[.generator]' -o /dev/null; }
train() { unit_buffer '[.trainer]' -o /dev/null; }
audit() { unit_buffer '[.auditor]' >audit || { cat audit; exit 1; }; }

# fails MESSAGE-PATTERN EXIT COMMAND...: the command must end with that exit code and say so on stderr.
fails() {
  local pattern=$1 expected=$2 status=0
  shift 2
  "$@" >/dev/null 2>stderr || status=$?
  [ $status -eq "$expected" ] || { echo "exit $status instead of $expected: $*"; cat stderr; exit 1; }
  grep -q -- "$pattern" stderr || { echo "no '$pattern' on stderr of $*:"; cat stderr; exit 1; }
}
expect() { [ "$1" = "$2" ] || { echo "$3: '$1', expected '$2'"; exit 1; }; }
# number KEY: of stat --json, the first of that name
number() { partial-buffer stat -q -s b --json | sed -E "s/.*\"$1\":([0-9]+).*/\1/"; }
in_state() { partial-buffer ls -q -s b --state "$1" --json | wc -l; }
