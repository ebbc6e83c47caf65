golden=$APRIL_SOURCE/formats/golden/v1
# fails EXIT MESSAGE-PATTERN COMMAND...: the command must end with that exit code and say so on stderr.
fails() {
  local expected=$1 pattern=$2 status=0
  shift 2
  "$@" >stdout 2>stderr || status=$?
  [ $status -eq "$expected" ] || { echo "exit $status instead of $expected: $*"; cat stderr; exit 1; }
  grep -qE -- "$pattern" stderr || { echo "no '$pattern' on stderr of $*:"; cat stderr; exit 1; }
}
expect() { [ "$1" = "$2" ] || { printf 'found\n%s\nexpected\n%s\n' "$1" "$2"; exit 1; }; }
# random_stream ENDPOINT RECORDS [PAUSE_MS]: writes a stream that is the same each time.
random_stream() { APRIL_STREAM=$1 APRIL_STREAM_RECORDS=$2 APRIL_STREAM_PAUSE_MS=${3:-0} unit_record '[.stream]' >/dev/null; }
# Waits until a socket or file is there.
await() { for _ in $(seq 100); do [ -e "$1" ] && return; sleep 0.05; done; echo "$1 did not come"; exit 1; }
