#!/usr/bin/env bash
# april.sh --dir RUN --model MODEL --prompts FILE [options]
#
# The resident loop: one generator, one scorer, one trainer around the buffer's server. Everything lies under RUN.
# Stop it with Ctrl-C; --dir RUN --resume goes on where it was, with the same options: no rollout is lost and none is trained twice.
#
#   --model MODEL      Hugging Face directory or .gguf file to start from
#   --prompts FILE     JSON lines: {"prompt": text or "messages": [...], "label": answer}
#   --scorer NAME      how responses are judged (reward-score --list; default gsm8k)
#   --pattern REGEX    of --scorer regex, for example 'answer is (\S+)'
#   --overlong MAX:BUFFER  punishes long responses softly, with any scorer (reward-score --help; default: off)
#   --steps N          training steps (default 60)         --groups N       prompts a step (default 8)
#   --group-size N     rollouts a prompt (default 8)       --max-tokens N   longest response (default 64)
#   --over-issue X     rollouts under way, as a multiple of a step's need (default 2)
#   --sync             no over-issue: the synchronous baseline
#   --lr X             learning rate (default 1e-5)        --temperature X  sampling temperature (default 1)
#   --seed N           seed of sampling and shuffling (default 1)
#   --admission WHICH  which finished groups a step may take: first-finished; window:W, only the W oldest; assigned:K, group n by age at step n/N + K.
#                      Default: window of one and a half steps' groups, so that few tokens are older than two versions (with --sync first-finished)
#   --filter NAME      nonzero-std: dynamic sampling (default none)
#   --max-staleness N  versions a rollout may be behind          --max-resumes N then a step waits for it (both: default any)
#   --order ORDER      which unfinished rollouts go on first (partial-buffer take --help; default partials-first)
#   --kv WAY           at new weights: recompute or keep the unfinished rollouts' keys and values (default recompute)
#   --checkpoint-every N   steps between full checkpoints (default 10)
#   --trainer "…"      further options for grpo-step       --generator "…"  further options for rollout-gen
#   --resume           go on with an existing RUN; only scorer, pattern, overlong, steps, lr, order and what follows it in this list may change then
. "$(dirname "$0")/lib.sh"
usage() { sed -n '2,/^\. /{/^\. /d;s/^# \{0,1\}//p}' "$0"; }

dir='' model='' prompts='' scorer=gsm8k pattern='' overlong='' steps=60 groups=8 group_size=8 max_tokens=64 over_issue=2 lr=1e-5 temperature=1 seed=1 kv=recompute
checkpoint_every=10 trainer='' generator='' resume=false given='' admission=auto filter=none max_staleness=-1 max_resumes=-1 order=partials-first
fixed=(model prompts groups group_size max_tokens over_issue temperature seed admission filter max_staleness max_resumes)  # the buffer was made with them
free=(scorer pattern overlong steps lr kv order checkpoint_every trainer generator)
while [ $# -gt 0 ]; do
  case $1 in
    --sync) over_issue=1 given+=" over_issue" ;;
    --resume) resume=true ;;
    -h | --help) usage; exit 0 ;;
    --dir | --model | --prompts | --scorer | --pattern | --overlong | --steps | --groups | --group-size | --max-tokens | --over-issue | --lr | --temperature | --seed | --kv | \
      --admission | --filter | --max-staleness | --max-resumes | --order | \
      --checkpoint-every | --trainer | --generator)
      [ $# -ge 2 ] || die 2 "$1 needs a value"
      name=${1#--} name=${name//-/_} given+=" $name"; printf -v "$name" %s "$2"; shift ;;
    *) die 2 "unknown option $1; try --help" ;;
  esac
  shift
done
[ -n "$dir" ] || die 2 "--dir is missing; try --help"
need_programs partial-buffer rollout-gen reward-score grpo-step weight-sync
model=${model:+$(realpath -m "$model")} prompts=${prompts:+$(realpath -m "$prompts")} hub=zmq+ipc://hub

# accept COMMAND...: what a program refuses ends this one, before anything is made or noted.
accept() { "$@" --print-config >/dev/null || exit; }
# The programs with their options, as they run below.
compose() {
  serves=(partial-buffer serve -s buffer --bind "$hub" --order "$order" --metrics metrics/buffer.jsonl)
  generates=(rollout-gen --from "$hub" --weights weights --kv "$kv" --metrics metrics/rollout-gen.jsonl $generator)
  scores=(reward-score --scorer "$scorer" ${pattern:+--pattern "$pattern"} ${overlong:+--overlong "$overlong"} --model "$model" --metrics metrics/reward-score.jsonl)
  claims=(partial-buffer claim -s "$hub" --follow --steps "$steps" --checkpoints checkpoints)
  trains=(grpo-step --model "$model" --from checkpoints --publish weights --lr "$lr" --checkpoint-every "$checkpoint_every" --metrics metrics/grpo-step.jsonl $trainer)
  accept "${serves[@]}"
  accept "${generates[@]}"
  accept "${scores[@]}"
  accept "${claims[@]}"
  accept "${trains[@]}"
}
if [ -e "$dir/buffer" ]; then
  $resume || die 2 "$dir/buffer exists; go on with --resume, or choose another --dir"
else
  ! $resume || die 2 "no run at $dir; to begin one leave out --resume, and give --model and --prompts"
  [ -n "$model$prompts" ] || die 2 "no run at $dir; to begin one give --model and --prompts"
  [ -n "$model" ] || die 2 "--model is needed to begin a run"
  [ -n "$prompts" ] || die 2 "--prompts is needed to begin a run"
  [ -r "$prompts" ] || die 1 "cannot read $prompts"
  [[ $over_issue =~ ^[0-9]*\.?[0-9]+$ ]] || die 2 "--over-issue: not a number: $over_issue"
  if [ "$admission" = auto ]; then
    admission=$(awk -v n="$groups" -v x="$over_issue" 'BEGIN { print (x > 1 ? "window:" int((3 * n + 1) / 2) : "first-finished") }')
  fi
  makes=(partial-buffer init -q -s buffer.new --model "$model" --group-size "$group_size" --groups-per-step "$groups" --max-tokens "$max_tokens"
    --temperature "$temperature" --seed "$seed" --admission "$admission" --filter "$filter" --max-staleness "$max_staleness" --max-resumes "$max_resumes")
  accept "${makes[@]}"
  compose
fi
mkdir -p "$dir/metrics"
cd "$dir"  # a socket's path is short: it is named from here

note_options() { for name in "${fixed[@]}" "${free[@]}"; do printf '%s=%s\n' "$name" "${!name}"; done >options.new && mv options.new options; }
if [ -e buffer ]; then
  changes=()
  for name in "${fixed[@]}" "${free[@]}"; do
    [ -e options ] || break  # a buffer made by hand
    case "$given " in *" $name "*) ;; *) grep -q "^$name=" options || continue ;; esac  # a run from before there was this option has its default
    was=$(sed -n "s/^$name=//p" options) option=--${name//_/-}
    case "$given " in *" $name "*) ;; *) printf -v "$name" %s "$was" ;; esac
    [ "${!name}" != "$was" ] || continue
    case " ${fixed[*]} " in *" $name "*) die 2 "this run was begun with $option $was, which cannot change to ${!name}: leave it out, or choose another --dir" ;; esac
    changes+=("from here on $option ${!name} instead of ${was:-none}")
  done
  compose
  stat=$(partial-buffer stat -q -s buffer --json)
  trained=$(value_of first_uncommitted_step - <<<"$stat")
  if [ "$(value_of first_unconsumed_step - <<<"$stat")" -ge "$steps" ]; then
    say "this run has its $trained $([ "$trained" = 1 ] && echo step || echo steps) already: give --steps above $trained"
    exit 0
  fi
  for change in "${changes[@]}"; do say "$change"; done
  note_options
else
  [ "$(cat weights/LATEST 2>/dev/null || echo 0)" = 0 ] || die 2 "$dir/weights has versions of another run; choose another --dir"
  in_flight=$(awk -v need=$((groups * group_size)) -v x="$over_issue" 'BEGIN { printf "%d", need * x }')
  rm -rf buffer.new  # of an attempt whose prompts were refused
  "${makes[@]}" --in-flight "$in_flight" \
    --retain-steps $((checkpoint_every > 4 ? checkpoint_every : 4))  # so that every step behind the checkpoint before the newest can be replayed
  prompts_in_file=$(awk 'NF { n++ } END { print n + 0 }' "$prompts")
  [ "$prompts_in_file" -gt 0 ] || die 3 "$prompts holds no prompts"
  planned=$((steps > 1000 ? steps : 1000))  # a longer run than this one may go on with the same buffer
  [ "$filter" = none ] || planned=$((planned * 10))  # what is dropped is replaced
  partial-buffer add -q -s buffer.new --prompts "$prompts" --shuffle "$seed" --epochs $(((planned + 2) * groups / prompts_in_file + 2))
  weight-sync publish -q --model "$model" --to weights --version 0 --supersede
  note_options
  mv buffer.new buffer
fi

if [[ $overlong =~ ^([0-9]+):([0-9]+)$ ]] && [ $((BASH_REMATCH[1] - BASH_REMATCH[2])) -ge "$max_tokens" ]; then
  say "--overlong $overlong punishes nothing: responses end at --max-tokens $max_tokens, and it begins above $((BASH_REMATCH[1] - BASH_REMATCH[2]))"
fi
"${serves[@]}" &
server=$!
# The server ends its generators and claims in order. SIGUSR1, since Ctrl-C has reached it already and a second SIGTERM would kill it.
trap 'kill -USR1 $server 2>/dev/null || true' INT TERM
generate() {
  trap '' INT TERM  # its programs end by themselves, once the server tells them to
  "${generates[@]}" | "${scores[@]}" | partial-buffer put -s $hub && return 0
  local code=$?
  [ $code -eq 75 ] || say "generation ended with exit $code, so training ends too; nothing is lost"
  kill -USR1 $server 2>/dev/null || true
  return $code
}
generate &
generation=$!

"${claims[@]}" | "${trains[@]}" | partial-buffer commit -s $hub &
training=$!

# Waits for a job, also through signals: bash runs a trap only between commands, or while it waits, and that wait ends then, with any status. How the job
# ended bash remembers.
finish() { while kill -0 "$1" 2>/dev/null; do wait "$1" || true; done; wait "$1"; }
status=0
finish $training || status=$?
[ $status -eq 0 ] || kill -USR1 $server 2>/dev/null || true
finish $generation || generation_status=$?
finish $server || server_status=$?
for code in "${generation_status:-0}" "${server_status:-0}"; do
  if [ "$status" -eq 0 ] || [ "$status" -eq 75 ]; then [ "$code" -eq 0 ] || status=$code; fi
done
[ $status -ne 75 ] || say "stopped with everything saved; april.sh --dir $dir --resume goes on"
exit $status
