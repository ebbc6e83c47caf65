# Sourced by the benchmarks: where things are, and how a figure is printed.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/pipelines/lib.sh"
here=$root/tests/bench

need_peers() {  # DIR: sets $peers and $python
  [ -n "${1:-}" ] || die 2 "usage: $(basename "$0") PEERS-DIR …; $here/peers/setup.sh PEERS-DIR makes it"
  peers=$(realpath "$1")
  python=$peers/venv/bin/python
  local path
  for path in venv/bin/python model/smollm2.gguf model/hf/model.safetensors; do
    [ -e "$peers/$path" ] || die 2 "$peers/$path is missing; run $here/peers/setup.sh $peers"
  done
}

need_batched_bench() {
  batched_bench=$peers/llama/build/bin/llama-batched-bench
  [ -x "$batched_bench" ] || die 2 "$batched_bench is missing; run $here/peers/setup.sh $peers"
}
# batched_bench COLUMN PROMPT TOKENS BATCH: of llama.cpp's table for prompts and responses of these lengths; the better of flash attention on and off
batched_bench() {
  local flash
  for flash in on off; do
    "$batched_bench" -m "$peers/model/bf16.gguf" -c $((($2 + $3) * $4 + 256)) -b 2048 -ub 512 -fa $flash -npp "$2" -ntg "$3" -npl "$4" -t "$(nproc)" \
      2>/dev/null | awk -F'|' -v column="$1" '/^\| +[0-9]/ { gsub(/ /, ""); print $column }'
  done | sort -g | tail -n 1
}

# queue_prompts FILE COUNT TOKENS SEED: the first prompts of the file as a stream of rollouts of so many new tokens at most
queue_prompts() {
  head -n "$2" "$1" >"$work/prompts.jsonl"
  partial-buffer add -q --prompts "$work/prompts.jsonl" --plain --model "$model" --purpose eval --group-size 1 --max-tokens "$3" --temperature 1 \
    --seed "$4" --out "$work/queued.stream"
}
# generate_metrics OPTIONS…: generates what is queued; per_second decode|prefill: tokens a second of the steps that did nothing else
generate_metrics() {
  rm -f "$work/metrics.jsonl"
  rollout-gen -q --model "$model" "$@" --in "$work/queued.stream" --out "$work/done.stream" --metrics "$work/metrics.jsonl"
  tail -n 1 "$work/metrics.jsonl" >"$work/last.json"
}
per_second() {
  awk -v tokens="$(value_of "$1_tokens" "$work/last.json")" -v seconds="$(value_of "$1_s" "$work/last.json")" 'BEGIN { print tokens / seconds }'
}

# addition_prompts FILE: single-digit addition, 64 questions
addition_prompts() {
  local a b
  for a in 2 3 4 5 6 7 8 9; do for b in 2 3 4 5 6 7 8 9; do
    printf '{"id":"%s+%s","prompt":"What is %s + %s?","label":"%s"}\n' $a $b $a $b $((a + b))
  done; done >"$1"
}
# record_addition FILE GROUPS: groups of 8 rollouts of at most 64 tokens, sampled at temperature 1
record_addition() {
  addition_prompts "$work/addition.jsonl"
  head -n "$2" "$work/addition.jsonl" >"$work/recorded.jsonl"
  partial-buffer add -q --prompts "$work/recorded.jsonl" --model "$peers/model/hf" --purpose eval --group-size 8 --max-tokens 64 \
    --temperature 1 --seed 1 --out "$work/queued.stream"
  rollout-gen -q --model "$peers/model/hf" --in-flight 64 --no-compress --in "$work/queued.stream" --out "$1"
}

# figure NAME UNIT higher|lower OURS THEIRS [KEY VALUE]…: OURS and THEIRS are files of one number a round, in the same order. The ratio is how many times
# better ours is: ours / theirs where higher is better, theirs / ours where lower is.
figure() {
  python3 - "$@" <<'PY'
import json, statistics, sys
name, unit, better, ours, theirs, *rest = sys.argv[1:]
ours, theirs = ([float(line) for line in open(path) if line.strip()] for path in (ours, theirs))
if not ours or len(ours) != len(theirs):
    sys.exit(f"{name}: {len(ours)} rounds of ours, {len(theirs)} of the peer's")
ratios = [a / b if better == "higher" else b / a for a, b in zip(ours, theirs)]
line = {"figure": name, "unit": unit}
number = lambda text: float(text) if "." in text else int(text)
line.update({key: number(value) if value.replace(".", "", 1).isdigit() else value for key, value in zip(rest[::2], rest[1::2])})
line.update(ours=round(statistics.median(ours), 3), theirs=round(statistics.median(theirs), 3), ratio_min=round(min(ratios), 3),
            ratio_median=round(statistics.median(ratios), 3), ratio_max=round(max(ratios), 3), rounds=len(ratios))
print(json.dumps(line), flush=True)
PY
}

export HF_HUB_OFFLINE=1 TQDM_DISABLE=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false
work=$(mktemp -d "${TMPDIR:-/tmp}/april-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
