#!/usr/bin/env bash
# evaluate.sh --model MODEL --prompts FILE [options]: accuracy on a prompt file, sampled and greedy, as one JSON line each.
#
#   --model MODEL      Hugging Face directory (a published version, a checkpoint) or .gguf file
#   --prompts FILE     JSON lines: {"prompt": text or "messages": [...], "label": answer}
#   --scorer NAME      how responses are judged (default gsm8k); those that it could not judge count as "errors", not as wrong
#   --pattern REGEX    of --scorer regex
#   --samples N        sampled responses a question (default 4)   --temperature X  of the sampled ones (default 1)
#   --max-tokens N     longest response (default 64)              --seed N         (default 1)
#   --out DIR          keep the scored responses there, for rollout-cat
. "$(dirname "$0")/lib.sh"
usage() { sed -n '2,/^\. /{/^\. /d;s/^# \{0,1\}//p}' "$0"; }

model='' prompts='' scorer=gsm8k pattern='' samples=4 temperature=1 max_tokens=64 seed=1 out=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --model | --prompts | --scorer | --pattern | --samples | --temperature | --max-tokens | --seed | --out)
      [ $# -ge 2 ] || die 2 "$1 needs a value"
      name=${1#--}; printf -v "${name//-/_}" %s "$2"; shift ;;
    *) die 2 "unknown option $1; try --help" ;;
  esac
  shift
done
[ -n "$model" ] && [ -n "$prompts" ] || { usage >&2; exit 2; }
need_programs partial-buffer rollout-gen reward-score rollout-cat
if [ -z "$out" ]; then out=$(mktemp -d); trap 'rm -rf "$out"' EXIT; fi
mkdir -p "$out"

measure() {  # NAME SAMPLES TEMPERATURE
  local metrics=$out/$1.jsonl
  rm -f "$metrics"
  partial-buffer add -q --prompts "$prompts" --model "$model" --purpose eval --group-size "$2" --max-tokens "$max_tokens" --temperature "$3" --seed "$seed" --out - |
    rollout-gen -q --model "$model" |
    reward-score -q --scorer "$scorer" ${pattern:+--pattern "$pattern"} --max-errors 1000000000 --model "$model" --metrics "$metrics" --out "$out/$1.zst"
  paste <(value_of rollouts "$metrics") <(value_of mean_reward "$metrics") <(value_of mean_response_tokens "$metrics") \
    <(value_of truncated_share "$metrics") <(value_of errors "$metrics") |
    awk -F'\t' -v name="$1" -v temperature="$3" '
      $1 > 0 { scored += $1; reward += $1 * $2; tokens += $1 * $3; truncated += $1 * $4 }
      { errors = $5 }
      END {
        if (!scored) { print "evaluate: no response was scored, " errors + 0 " could not be judged" > "/dev/stderr"; exit 1 }
        printf "{\"evaluation\":\"%s\",\"temperature\":%s,\"scored\":%d,\"errors\":%d,\"accuracy\":%.4f,\"mean_tokens\":%.1f,\"truncated_share\":%.4f}\n",
          name, temperature, scored, errors, reward / scored, tokens / scored, truncated / scored
      }'
}
measure sampled "$samples" "$temperature"
measure greedy 1 0
