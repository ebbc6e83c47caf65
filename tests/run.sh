#!/usr/bin/env bash
# tests/run.sh [options] [NAME...]: sets up what is missing, builds, runs the tests; the last line is "N passed, N failed".
#   --fast       no model, no pipelines, no faults, nothing that mostly waits or takes long: about a minute on two processors, once built
#   --werror     warnings are errors
#   --sanitize   also builds with clang, without LibTorch, and runs the unit tests under the address and undefined sanitizers, those of sockets and
#                buffer under the thread sanitizer too; and each fuzz target for 30 s
#   NAME         (again if wanted) only tests whose name contains NAME, e.g. unit/stream or cli/rollout-cat
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
fast=false werror=OFF sanitize=false names=()
for argument in "$@"; do
  case $argument in
    --fast) fast=true ;;
    --werror) werror=ON ;;
    --sanitize) sanitize=true ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "tests/run.sh: unknown option $argument; try --help" >&2; exit 2 ;;
    *) names+=("$argument") ;;
  esac
done

parallel=$(nproc)
started=$SECONDS
work=$(mktemp -d "${TMPDIR:-/tmp}/april-tests.XXXXXX")
mkdir "$work/results"
trap 'rm -rf "$work"' EXIT

wanted() {
  [ ${#names[@]} -eq 0 ] && return 0
  local name
  for name in "${names[@]}"; do case $1 in *"$name"*) return 0 ;; esac; done
  return 1
}

# Tests run side by side, as many as there are processors; each says what came of it when it is done.
start() {
  wanted "$2" || return 0
  while [ "$(jobs -rp | wc -l)" -ge "$parallel" ]; do wait -n || true; done
  "$@" &
}
alone() {
  wanted "$2" || return 0
  wait
  "$@"
}
# result PASSED FAILED LINE [LOG]: counts, and prints in one piece.
result() {
  echo "$1 $2" >"$(mktemp "$work/results/XXXXXX")"
  printf '%s\n%s' "$3" "${4:+$(tail -n 60 "$4")
}"
}

# A unit executable counts each of its test cases.
unit_limit=600  # seconds
unit() {  # NAME EXECUTABLE ARGUMENTS...
  local name=$1 log count bad begin=$SECONDS status=0
  shift
  log=$(mktemp "$work/log.XXXXXX")
  timeout "$unit_limit" "$@" >"$log" 2>&1 || status=$?
  count=$(sed -nE 's/^All tests passed \([0-9]+ assertions? in ([0-9]+) test cases?\)$/\1/p; s/^test cases: *([0-9]+) \|.*/\1/p' "$log" | tail -n 1)
  bad=$(sed -nE 's/^test cases:.* ([0-9]+) failed.*/\1/p' "$log" | tail -n 1)
  if [ $status -eq 0 ] && [ -n "$count" ]; then
    result "$count" 0 "ok    $name ($count cases, $((SECONDS - begin)) s)"
  else
    bad=${bad:-1} count=${count:-1}
    result $((count - bad)) "$bad" "FAIL  $name ($bad of $count cases, exit $status)" "$log"
  fi
}

# A script is one test: exit 0 and an empty scratch directory to work in.
script() {  # NAME TIMEOUT_S COMMAND...
  local name=$1 limit=$2 scratch log begin=$SECONDS status=0
  shift 2
  scratch=$(mktemp -d "$work/scratch.XXXXXX") log=$(mktemp "$work/log.XXXXXX")
  (cd "$scratch" && timeout -k 5 "$limit" "$@") >"$log" 2>&1 </dev/null || status=$?
  if [ $status -eq 0 ]; then
    result 1 0 "ok    $name ($((SECONDS - begin)) s)"
  else
    result 0 1 "FAIL  $name (exit $status$([ $status -ne 124 ] || echo ", over $limit s"))" "$log"
  fi
  rm -rf "$scratch"
}

build() {  # FOLDER "TARGET..." CMAKE_ARGUMENTS...
  local folder=$1 target=$2 log=$work/build.log begin=$SECONDS
  shift 2
  if cmake -S . -B "$folder" -G Ninja "$@" >"$log" 2>&1 && cmake --build "$folder" --target $target >>"$log" 2>&1; then
    printf 'built %s in %s s\n' "$folder" $((SECONDS - begin))
  else
    printf 'FAIL  build of %s\n' "$folder"
    grep -E 'error|warning|FAILED' "$log" | head -n 40 || tail -n 40 "$log"
    tail -n 5 "$log"
    echo "0 passed, 1 failed"
    exit 1
  fi
}

setup_arguments=(python3-msgpack python3-zmq)
if [ "${CI:-}" = true ]; then setup_arguments+=(--yes); fi
if $sanitize; then setup_arguments+=(clang libclang-rt-dev); fi
pipelines/setup.sh "${setup_arguments[@]}"
build build/release "all benches" -DCMAKE_BUILD_TYPE=Release -DCMAKE_UNITY_BUILD=ON -DAPRIL_TESTS=ON -DAPRIL_WERROR=$werror
export PATH=$root/build/release/bin:$PATH APRIL_SOURCE=$root APRIL_BIN=$root/build/release/bin
export XDG_CACHE_HOME=$root/build/test-cache  # what programs remember of this machine
unset APRIL_MODEL APRIL_MODEL_HF
if ! $fast; then
  APRIL_MODEL=$(pipelines/get-model.sh build/model)
  export APRIL_MODEL=$root/$APRIL_MODEL
  if [ ! -e build/model/hf/LATEST ]; then weight-sync publish -q --model "$APRIL_MODEL" --to build/model/hf; fi
  export APRIL_MODEL_HF=$root/build/model/hf/v00000000
fi

start script lint/includes 30 python3 "$root/tests/lint/includes.py"
for layer in format cli; do
  for file in $(find tests/$layer -name '*.sh' | sort); do start script "${file#tests/}" 60 bash "$root/$file"; done
done
if ! $fast; then
  for file in $(find tests/fault -name '*.sh' | sort); do start script "${file#tests/}" 300 bash "$root/$file"; done
fi
for executable in build/release/bin/unit_*; do
  if $fast; then
    start unit "unit/${executable##*unit_}" "$executable" '~[.]~[model]~[slow]'
  else
    start unit "unit/${executable##*unit_}" "$executable"
  fi
done
wait
if ! $fast; then
  for layer in parity pipeline; do
    for file in $(find tests/$layer -name '*.sh' | sort); do alone script "${file#tests/}" 900 bash "$root/$file"; done
  done
fi

# Under a sanitizer, with clang: without the real model and the cases tagged [heavy], which would take minutes.
sanitized() {  # SANITIZERS TARGET...
  local sanitizers=$1 folder=build/sanitize-${1%%,*} executable unit_limit=1500
  build "$folder" "${*:2}" -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-gline-tables-only" -DCMAKE_CXX_COMPILER=clang++ -DAPRIL_WERROR=$werror \
    -DAPRIL_SANITIZE="$sanitizers" -DAPRIL_TORCH=OFF -DAPRIL_FUZZ=$([ "$sanitizers" = thread ] && echo OFF || echo ON) \
    -DCMAKE_UNITY_BUILD=$([ "$sanitizers" = thread ] && echo OFF || echo ON)
  for executable in "$folder"/bin/unit_*; do
    start unit "${sanitizers%%,*}/${executable##*unit_}" env -u APRIL_MODEL -u APRIL_MODEL_HF "$executable" '~[.]~[model]~[slow]~[heavy]'
  done
  wait
}
fuzzed() {
  local corpus
  for corpus in tests/fuzz/corpus/*; do
    start script "fuzz/${corpus##*/}" 120 "$root/build/sanitize-address/bin/fuzz_${corpus##*/}" -seed=1 -max_total_time=30 -rss_limit_mb=2048 -timeout=10 \
      -print_final_stats=1 . "$root/$corpus"
  done
  wait
}
if $sanitize; then
  sanitized address,undefined all
  fuzzed
  sanitized thread unit_base unit_stream unit_buffer
fi

if [ -z "$(ls "$work/results")" ]; then
  echo "tests/run.sh: no test has such a name: ${names[*]}" >&2
  exit 2
fi
echo "tests took $((SECONDS - started)) s"
cat "$work"/results/* | awk '{ passed += $1; failed += $2 } END { printf "%d passed, %d failed\n", passed, failed; exit failed > 0 }'
