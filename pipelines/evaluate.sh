#!/usr/bin/env bash
# evaluate.sh --model MODEL --prompts FILE [options]: accuracy on a prompt file, sampled and greedy, as one JSON line each.
#
#   --model MODEL      Hugging Face directory (a published version, a checkpoint) or .gguf file
#   --prompts FILE     JSON lines: {"prompt": text or "messages": [...], "label": answer}
#   --scorer NAME      how responses are judged (default gsm8k)
#   --samples N        sampled responses a question (default 4)   --temperature X  of the sampled ones (default 1)
#   --max-tokens N     longest response (default 64)              --seed N         (default 1)
#   --out DIR          keep the scored responses there, for rollout-cat
. "$(dirname "$0")/lib.sh"
usage() { sed -n '2,/^\. /{/^\. /d;s/^# \{0,1\}//p}' "$0"; }

model='' prompts='' scorer=gsm8k samples=4 temperature=1 max_tokens=64 seed=1 out=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --model | --prompts | --scorer | --samples | --temperature | --max-tokens | --seed | --out)
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
  local stream=$out/$1.zst
  partial-buffer add -q --prompts "$prompts" --model "$model" --purpose eval --group-size "$2" --max-tokens "$max_tokens" --temperature "$3" --seed "$seed" --out - |
    rollout-gen -q --model "$model" |
    reward-score -q --scorer "$scorer" --model "$model" --out "$stream"
  rollout-cat -q --json --in "$stream" | awk -v name="$1" -v temperature="$3" '
    /"type":"rollout"/ {
      responses++
      if (/"finish":"length"/) truncated++
      if (match($0, /"num_tokens":[0-9]+/)) tokens += substr($0, RSTART + 13, RLENGTH - 13)
      at = index($0, "\"reward\":{"); reward = substr($0, at)
      if (at && reward ~ /"status":"ok"/) { scored++; match(reward, /"value":[-+0-9.e]+/); sum += substr(reward, RSTART + 8, RLENGTH - 8) }
    }
    END {
      if (!scored) { print "evaluate: no response was scored" > "/dev/stderr"; exit 1 }
      printf "{\"evaluation\":\"%s\",\"temperature\":%s,\"responses\":%d,\"scored\":%d,\"accuracy\":%.4f,\"mean_tokens\":%.1f,\"truncated_share\":%.4f}\n",
        name, temperature, responses, scored, sum / scored, tokens / responses, truncated / responses
    }'
}
measure sampled "$samples" "$temperature"
measure greedy 1 0
