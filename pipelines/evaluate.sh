#!/usr/bin/env bash
# evaluate.sh --model MODEL --prompts FILE [options]: pass@1, pass@k and length of responses on a prompt file, sampled over several seeds, and greedy.
#
#   --model MODEL      Hugging Face directory (a published version, a checkpoint) or .gguf file
#   --prompts FILE     JSON lines: {"prompt": text or "messages": [...], "label": answer}
#   --scorer NAME      how responses are judged (default gsm8k); those that it could not judge are counted apart, not as wrong
#   --pattern REGEX    of --scorer regex
#   --pass-reward X    a response passes with this reward or more (default 1)
#   --samples N        sampled responses a question and seed (default 4)
#   --k K,…            of pass@k, each at most --samples; 1 always (default: 1, 2, 4, 8, … up to it)
#   --seeds N          so many seeds, from --seed on (default 3)     --seed N         the first (default 1)
#   --temperature X    of the sampled ones (default 1)               --max-tokens N   longest response (default 64)
#   --json             one JSON object for the sampled responses, one for the greedy ones, instead of a table
#   --out DIR          keep the scored responses there, for rollout-cat: sampled-SEED.zst, greedy.zst
#
# pass@k is the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374, equation 1), averaged over questions, then over seeds. ± is the 95 % interval of
# that mean over seeds (Student's t). Greedy: one response a question, the likeliest token each time.
. "$(dirname "$0")/lib.sh"
usage() { sed -n '2,/^\. /{/^\. /d;s/^# \{0,1\}//p}' "$0"; }

model='' prompts='' scorer=gsm8k pattern='' pass_reward=1 samples=4 k='' seeds=3 seed=1 temperature=1 max_tokens=64 json=false out=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --json) json=true ;;
    --model | --prompts | --scorer | --pattern | --pass-reward | --samples | --k | --seeds | --seed | --temperature | --max-tokens | --out)
      [ $# -ge 2 ] || die 2 "$1 needs a value"
      name=${1#--}; printf -v "${name//-/_}" %s "$2"; shift ;;
    *) die 2 "unknown option $1; try --help" ;;
  esac
  shift
done
[ -n "$model" ] && [ -n "$prompts" ] || die 2 "--model and --prompts are needed; try --help"
for name in samples seeds; do
  case ${!name} in '' | *[!0-9]* | 0) die 2 "--$name: not a positive whole number: ${!name}" ;; esac
done
case $seed in '' | *[!0-9]*) die 2 "--seed: not a whole number: $seed" ;; esac
if [ -z "$k" ]; then
  for ((power = 1; power <= samples; power *= 2)); do k+=${k:+,}$power; done
fi
for each in ${k//,/ }; do
  case $each in '' | *[!0-9]* | 0) die 2 "--k: not a positive whole number: $each" ;; esac
  [ "$each" -le "$samples" ] || die 2 "pass@$each needs at least $each responses a question: add --samples $each"
done
case ,$k, in *,1,*) ;; *) k=1,$k ;; esac
[ -r "$prompts" ] || die 1 "cannot read $prompts"
need_programs partial-buffer rollout-gen reward-score rollout-cat
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ -n "$out" ] || out=$work
mkdir -p "$out"

# Responses as lines for evaluate.awk. No string holds the text that is looked for: in it quotes are escaped.
lines() {  # SEED STREAM
  rollout-cat -q --json --in "$2" | awk -v seed="$1" '
    function after(key,    at) { at = index($0, "\"" key "\":"); return at ? substr($0, at + length(key) + 3) : "" }
    function text(key,    rest) { rest = after(key); return match(rest, /^"([^"\\]|\\.)*"/) ? substr(rest, 1, RLENGTH) : "" }
    !/"type":"rollout"/ { next }
    {
      list = after("tokens"); list = substr(list, 2, index(list, "]") - 2)
      reward = after("reward"); value = "-"
      if (reward ~ /^\{[^}]*"status":"ok"/ && match(reward, /"value":[-+0-9.eE]+/)) value = substr(reward, RSTART + 8, RLENGTH - 8)
      finish = text("finish"); gsub(/"/, "", finish)
      print seed "\t" text("prompt_id") "\t" value "\t" (list == "" ? 0 : gsub(/,/, ",", list) + 1) "\t" finish
    }'
}
answer() {  # SEED STREAM SAMPLES TEMPERATURE
  partial-buffer add -q --prompts "$prompts" --model "$model" --purpose eval --group-size "$3" --max-tokens "$max_tokens" --temperature "$4" --seed "$1" --out - |
    rollout-gen -q --model "$model" |
    reward-score -q --scorer "$scorer" ${pattern:+--pattern "$pattern"} --max-errors 1000000000 --model "$model" --out "$2"
}
summarise() {  # NAME SAMPLES TEMPERATURE KS
  awk -f "$here/evaluate.awk" -v name="$1" -v samples="$2" -v temperature="$3" -v ks="$4" -v columns="$k" -v passing="$pass_reward" \
    -v json="$($json && echo 1 || echo 0)" "$work/$1"
}
for ((i = seed; i < seed + seeds; ++i)); do
  answer "$i" "$out/sampled-$i.zst" "$samples" "$temperature"
  lines "$i" "$out/sampled-$i.zst" >>"$work/sampled"
done
answer "$seed" "$out/greedy.zst" 1 0
lines "$seed" "$out/greedy.zst" >"$work/greedy"
if $json; then
  summarise sampled "$samples" "$temperature" "$k"
  summarise greedy 1 0 1
  exit
fi
printf '%s\n%s questions; sampled: %s seeds from %s, %s responses a question each, temperature %s; passed: reward of %s or more by %s\n\n' \
  "$model" "$(cut -f2 "$work/greedy" | sort -u | wc -l)" "$seeds" "$seed" "$samples" "$temperature" "$pass_reward" "$scorer"
printf '%-8s' ''
for each in ${k//,/ }; do printf '  %-15s' "pass@$each"; done
printf '  %-15s  %9s  %10s\n' tokens truncated 'not judged'
summarise sampled "$samples" "$temperature" "$k"
summarise greedy 1 0 1
[ "$seeds" -eq 1 ] || printf '\n± 95 %% interval of the mean over the seeds: what other seeds would change, not what other questions would\n'
