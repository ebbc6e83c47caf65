#!/usr/bin/env bash
# quickstart.sh [options]: set-up, build, model, and an APRIL run of GRPO on a real language model, with a picture at the end.
#
# SmolLM2-135M-Instruct learns single-digit addition: 8 questions a step, 8 rollouts each, twice as many started as needed.
# Ctrl-C stops and saves everything; the same command goes on. Remove DIR/quickstart to start over.
#
#   --steps N   training steps (default 40)
#   --quick     3 steps: does everything once, learns nothing
#   --dir DIR   where everything goes: build, model, run (default build; below 6 GB)
#   --yes       install missing system packages without asking
. "$(dirname "$0")/lib.sh"
usage() { sed -n '2,/^\. /{/^\. /d;s/^# \{0,1\}//p}' "$0"; }

steps=40 dir=$source_dir/build yes=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --quick) steps=3 ;;
    --yes) yes=(--yes) ;;
    --steps | --dir) [ $# -ge 2 ] || die 2 "$1 needs a value"; printf -v "${1#--}" %s "$2"; shift ;;
    *) die 2 "unknown option $1; try --help" ;;
  esac
  shift
done
case $steps in '' | *[!0-9]* | 0) die 2 "--steps: not a positive whole number: $steps" ;; esac
mkdir -p "$dir"
dir=$(realpath "$dir")
run=$dir/quickstart
times=$dir/quickstart-times.tsv
begin=$(now)
phase() {  # NAME COMMAND...: runs it and notes how long it took
  local name=$1 start
  shift
  start=$(now)
  "$@"
  printf '%s\t%.1f\n' "$name" "$(echo "$(now) $start" | awk '{print $1 - $2}')" >>"$times"
}
: >"$times"

phase packages "$here/setup.sh" "${yes[@]}"
build() {
  say "building (a few minutes the first time)"
  cmake -S "$source_dir" -B "$dir/release" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_UNITY_BUILD=ON -DAPRIL_TESTS=OFF >"$dir/build.log" 2>&1 &&
    cmake --build "$dir/release" >>"$dir/build.log" 2>&1 || { tail -n 20 "$dir/build.log" >&2; die 1 "the build failed; its log is $dir/build.log"; }
}
phase build build
export APRIL_BIN=$dir/release/bin PATH=$dir/release/bin:$PATH
phase model "$here/get-model.sh" "$dir/model" >/dev/null

mkdir -p "$run"
for a in 2 3 4 5 6 7 8 9; do for b in 2 3 4 5 6 7 8 9; do
  printf '{"id":"%s+%s","prompt":"What is %s + %s?","label":"%s"}\n' $a $b $a $b $((a + b))
done; done >"$run/addition.jsonl"

resume=()
if [ -e "$run/buffer" ]; then
  resume=(--resume)
  say "going on with $run (remove that folder to start over)"
else
  weight-sync publish -q --model "$dir/model/smollm2.gguf" --to "$run/weights" --version 0
fi
evaluate() { "$here/evaluate.sh" --model "$1" --prompts "$run/addition.jsonl" --seeds 1 --json --out "$run/$2" >"$run/$2.jsonl"; }
if [ ! -s "$run/before.jsonl" ]; then
  say "asking all 64 questions before training"
  phase evaluation evaluate "$run/weights/v00000000" before
fi

say "training $steps steps; Ctrl-C stops, the same command goes on"
phase training "$here/april.sh" --dir "$run" --model "$dir/model/smollm2.gguf" --prompts "$run/addition.jsonl" --steps "$steps" \
  --trainer "--keep 1" "${resume[@]}"  # one whole checkpoint is 1.8 GB

trained=$(cat "$run/weights/LATEST")
say "asking all 64 questions after training"
phase evaluation evaluate "$run/weights/v$(printf %08d "$trained")" after
"$here/report.sh" "$run" >/dev/null
checkpoint=$(ls -d "$run"/checkpoints/step-* | tail -n 1)
accuracy() { printf %.3f "$(grep "\"$2\"" "$run/$1.jsonl" | sed -E 's/.*"pass_at_1":([0-9.]+).*/\1/')"; }
cat <<END

sampled accuracy   $(accuracy before sampled) before, $(accuracy after sampled) after $trained steps (greedy: $(accuracy before greedy), $(accuracy after greedy))
$(cat "$run/summary.txt")
seconds            $(awk -F'\t' '{ printf "%s%s %s", (NR > 1 ? ", " : ""), $1, $2 }' "$times"), in all $(echo "$(now) $begin" | awk '{printf "%.0f", $1 - $2}')

the curve          $run/report.svg
a look inside      partial-buffer stat -s $run/buffer
                   partial-buffer ls -s $run/buffer | head
                   rollout-cat --text --model $dir/model/smollm2.gguf --in $run/after/sampled-1.zst | less
the trained model  $checkpoint (loads in transformers as it is)
                   rollout-gen --model $checkpoint --prompt "What is 3 + 5?"
(the programs are in $dir/release/bin)
END
