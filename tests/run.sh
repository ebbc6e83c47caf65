#!/usr/bin/env bash
# tests/run.sh [options] [NAME...]: sets up what is missing, builds, runs the tests; the last line is "N passed, N failed".
#   --fast       no model, no pipelines: at most a minute once built
#   --werror     warnings are errors
#   --clang      also builds everything but the LibTorch parts with clang, warnings as errors
#   --sanitize   also runs the unit tests, without LibTorch, under the address, undefined and thread sanitizers
#   NAME         (again if wanted) only tests whose name contains NAME, e.g. unit/stream or cli/rollout-cat
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
fast=false werror=OFF clang=false sanitize=false names=()
for argument in "$@"; do
  case $argument in
    --fast) fast=true ;;
    --werror) werror=ON ;;
    --clang) clang=true ;;
    --sanitize) sanitize=true ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "tests/run.sh: unknown option $argument; try --help" >&2; exit 2 ;;
    *) names+=("$argument") ;;
  esac
done

passed=0 failed=0
started=$SECONDS
work=$(mktemp -d "${TMPDIR:-/tmp}/april-tests.XXXXXX")
trap 'rm -rf "$work"' EXIT

wanted() {
  [ ${#names[@]} -eq 0 ] && return 0
  local name
  for name in "${names[@]}"; do case $1 in *"$name"*) return 0 ;; esac; done
  return 1
}

# A unit executable counts each of its test cases.
unit() {  # NAME EXECUTABLE ARGUMENTS...
  local name=$1 log=$work/log count bad
  shift
  wanted "$name" || return 0
  local begin=$SECONDS status=0
  timeout 600 "$@" >"$log" 2>&1 || status=$?
  count=$(sed -nE 's/^All tests passed \([0-9]+ assertions? in ([0-9]+) test cases?\)$/\1/p; s/^test cases: *([0-9]+) \|.*/\1/p' "$log" | tail -n 1)
  bad=$(sed -nE 's/^test cases:.* ([0-9]+) failed.*/\1/p' "$log" | tail -n 1)
  if [ $status -eq 0 ] && [ -n "$count" ]; then
    passed=$((passed + count))
    printf 'ok    %s (%s cases, %s s)\n' "$name" "$count" $((SECONDS - begin))
  else
    bad=${bad:-1} count=${count:-1}
    passed=$((passed + count - bad)) failed=$((failed + bad))
    printf 'FAIL  %s (%s of %s cases, exit %s)\n' "$name" "$bad" "$count" $status
    tail -n 60 "$log"
  fi
}

# A script is one test: exit 0 and an empty scratch directory to work in.
script() {  # NAME TIMEOUT_S COMMAND...
  local name=$1 limit=$2 scratch
  shift 2
  wanted "$name" || return 0
  scratch=$(mktemp -d "$work/scratch.XXXXXX")
  local begin=$SECONDS status=0
  (cd "$scratch" && timeout -k 5 "$limit" "$@") >"$work/log" 2>&1 </dev/null || status=$?
  if [ $status -eq 0 ]; then
    passed=$((passed + 1))
    printf 'ok    %s (%s s)\n' "$name" $((SECONDS - begin))
  else
    failed=$((failed + 1))
    printf 'FAIL  %s (exit %s%s)\n' "$name" $status "$([ $status -eq 124 ] && echo ", over $limit s")"
    tail -n 60 "$work/log"
  fi
  rm -rf "$scratch"
}

build() {  # FOLDER TARGET CMAKE_ARGUMENTS...
  local folder=$1 target=$2 log=$work/build.log begin=$SECONDS
  shift 2
  if cmake -S . -B "$folder" -G Ninja "$@" >"$log" 2>&1 && cmake --build "$folder" --target "$target" >>"$log" 2>&1; then
    printf 'built %s in %s s\n' "$folder" $((SECONDS - begin))
  else
    printf 'FAIL  build of %s\n' "$folder"
    grep -E 'error|warning|FAILED' "$log" | head -n 40 || tail -n 40 "$log"
    tail -n 5 "$log"
    echo "0 passed, 1 failed"
    exit 1
  fi
}

setup_arguments=()
if [ "${CI:-}" = true ]; then setup_arguments=(--yes); fi
if $clang; then setup_arguments+=(clang); fi
pipelines/setup.sh "${setup_arguments[@]}"
build build/release all -DCMAKE_BUILD_TYPE=Release -DAPRIL_TESTS=ON -DAPRIL_WERROR=$werror
export PATH=$root/build/release/bin:$PATH APRIL_SOURCE=$root APRIL_BIN=$root/build/release/bin
unset APRIL_MODEL APRIL_MODEL_HF
if ! $fast; then
  APRIL_MODEL=$(pipelines/get-model.sh build/model)
  export APRIL_MODEL=$root/$APRIL_MODEL
  if [ ! -e build/model/hf/LATEST ]; then weight-sync publish -q --model "$APRIL_MODEL" --to build/model/hf; fi
  export APRIL_MODEL_HF=$root/build/model/hf/v00000000
fi

script lint/includes 30 python3 "$root/tests/lint/includes.py"
for executable in build/release/bin/unit_*; do
  if $fast; then
    unit "unit/${executable##*unit_}" "$executable" '~[model]~[slow]'
  else
    unit "unit/${executable##*unit_}" "$executable"
  fi
done
for layer in format cli fault; do
  for file in $(find tests/$layer -name '*.sh' | sort); do script "${file#tests/}" 60 bash "$root/$file"; done
done
if ! $fast; then
  for layer in parity pipeline; do
    for file in $(find tests/$layer -name '*.sh' | sort); do script "${file#tests/}" 900 bash "$root/$file"; done
  done
fi

if $clang; then
  build build/clang all -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++ -DAPRIL_WERROR=ON -DAPRIL_TORCH=OFF
fi
if $sanitize; then
  for sanitizer in address,undefined thread; do
    folder=build/sanitize-${sanitizer%%,*}
    build "$folder" all -DCMAKE_BUILD_TYPE=RelWithDebInfo -DAPRIL_SANITIZE="$sanitizer" -DAPRIL_TORCH=OFF
    for executable in "$folder"/bin/unit_*; do unit "${sanitizer%%,*}/${executable##*unit_}" "$executable" '~[model]~[slow]'; done
  done
fi

if [ $((passed + failed)) -eq 0 ]; then echo "tests/run.sh: no test has such a name: ${names[*]}" >&2; failed=1; fi
echo "tests took $((SECONDS - started)) s"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
