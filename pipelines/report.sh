#!/usr/bin/env bash
# report.sh RUN: draws a run's curves as RUN/report.svg and report.png and says in RUN/summary.txt what it made.
#
# Reward, lengths, speed, staleness, buffer, entropy, divergences, ratios, clipping, weights, gradients, loss, time and memory over the steps, from
# RUN/metrics/*.jsonl; formats/metrics.md says what each number means. A run that still goes on can be drawn, too.
. "$(dirname "$0")/lib.sh"
case ${1:-} in "" | -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; [ "${1:-}" ] && exit 0 || exit 2 ;; esac
[ -d "$1" ] || die 2 "no run at $1: the folder that april.sh was given with --dir is wanted"
run=$(realpath "$1")
cd "$run"
command -v gnuplot >/dev/null || die 1 "gnuplot is missing; pipelines/setup.sh installs it"
trainer=metrics/grpo-step.jsonl generator=metrics/rollout-gen.jsonl buffer=metrics/buffer.jsonl
[ -s $trainer ] || die 1 "$run/$trainer is missing or empty: no step was trained yet"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
steps=$work/steps sampled=$work/sampled buffered=$work/buffered

column() { value_of "$1" "$2"; }
# by_step FILE KEY...: a row a step under a header of the keys; a step that was trained again after a restart counts with its last line.
by_step() {
  local file=$1 key columns=()
  shift
  for key in step "$@"; do
    column "$key" "$file" >"$work/column.$key"
    columns+=("$work/column.$key")
  done
  (IFS=$'\t'; echo "step"$'\t'"$*")
  paste "${columns[@]}" | awk -F'\t' '{ row[$1] = $0 } END { for (step in row) print row[step] }' | sort -n
}
ages='0 1 2 3'  # policy versions behind the trainer's, the usual ones
by_age() { for age in $ages; do printf '%s.%s ' "$1" "$age"; done; }
by_step $trainer $(by_age token_share_by_age) $(by_age clip_share_by_age) effective_token_share behaviour_effective_token_share \
  reward_mean reward_std response_mean_tokens tokens_per_s stale_share truncated_share zero_advantage_group_share entropy_nats kl_behaviour_k3_nats \
  kl_reference_nats ratio_min ratio_p01 ratio_p50 ratio_p99 ratio_max behaviour_ratio_p01 behaviour_ratio_p50 behaviour_ratio_p99 clip_low_share clip_high_share \
  masked_share correction_capped_share grad_norm grad_norm_embedding grad_norm_attention grad_norm_mlp grad_norm_norms grad_norm_head loss lr advantage_std advantage_min \
  advantage_max forward_s backward_s optimizer_s publish_s checkpoint_s wait_s peak_share memory_bytes peak_memory_bytes >"$steps"

# The generator counts from its start on: what a policy version sampled is the difference between its last line and the version's before.
printf 'step\tlength\ttokens_per_s\n' >"$sampled"
if [ -s $generator ]; then
  paste <(column policy_version $generator) <(column time_s $generator) <(column tokens $generator) <(column finished $generator) <(column finished_tokens $generator) |
    awk -F'\t' '
      NR == 1 || $2 < time { tokens = finished = finished_tokens = 0 }  # a new process
      { gained[$1] += $3 - tokens; done[$1] += $4 - finished; length_sum[$1] += $5 - finished_tokens
        if ($3 > tokens) busy[$1] += $2 - time > 0 && $2 - time < 5 ? $2 - time : 0
        time = $2; tokens = $3; finished = $4; finished_tokens = $5 }
      END { for (v in gained) print v "\t" (done[v] ? length_sum[v] / done[v] : "nan") "\t" (busy[v] ? gained[v] / busy[v] : "nan") }' | sort -n >>"$sampled"
fi
printf 'step\theld\tunfinished\n' >"$buffered"
[ ! -s $buffer ] || by_step $buffer held_rollouts partial_rollouts leased_rollouts queued_rollouts | awk -F'\t' 'NR > 1 { print $1 "\t" $2 "\t" $3 + $4 + $5 }' >>"$buffered"

# Panels. What has no number in this run is left out.
panels=''
number_of() { awk -F'\t' -v key="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == key) print i }' "$1"; }
has() { awk -F'\t' -v i="$(number_of "$1" "$2")" 'NR > 1 && $i != "nan" { found = 1 } END { exit !found }' "$1"; }
plots=()
# curve KEY COLOUR TITLE [FILE [STYLE]]
curve() {
  local file=${4:-$steps}
  if has "$file" "$1"; then plots+=("\"$file\" using 1:\"$1\" ${5:-with lines lw 2} lc rgb \"$2\" title \"$3\""); fi
}
# band LOW HIGH COLOUR TITLE
band() { if has "$steps" "$1"; then plots+=("\"$steps\" using 1:\"$1\":\"$2\" with filledcurves fs transparent solid 0.25 noborder lc rgb \"$3\" title \"$4\""); fi; }
# panel "AXIS" "SETTINGS": draws what was collected.
panel() {
  local list
  if [ ${#plots[@]} -eq 0 ]; then
    panels+="set ylabel \"$1\"; set label 1 \"no numbers\" at graph 0.5, 0.5 center; plot [0:1][0:1] NaN notitle; unset label 1"$'\n'
  else
    printf -v list '%s, ' "${plots[@]}"
    panels+="set ylabel \"$1\"; ${2:-}; plot ${list%, }; set yrange [*:*]; unset logscale y; set offsets 0, 0, graph 0.05, 0"$'\n'
  fi
  plots=()
}
blue='#2171b5' light='#9ecae1' orange='#f16913' green='#31a354' purple='#756bb1' red='#cb181d' grey='#969696' brown='#8c6d31'

curve reward_mean $light step "$steps" 'with points pt 7 ps 0.8'
if has "$steps" reward_mean; then plots+=("\"$steps\" using 1:\"reward_mean\" smooth sbezier lw 2 lc rgb \"$blue\" title \"smoothed\""); fi
panel 'mean reward' 'set yrange [* < 0:*]'
curve length $orange sampled "$sampled"; curve response_mean_tokens $blue trained
panel 'tokens a response' 'set yrange [0:*]'
curve stale_share $purple 'stale tokens'; curve truncated_share $grey 'truncated'; curve zero_advantage_group_share $brown 'groups without advantage'
panel share 'set yrange [0:1]'

curve entropy_nats $green entropy
panel 'nats a token'
curve kl_behaviour_k3_nats $red 'from the policies that sampled'; curve kl_reference_nats $blue 'from the reference'
panel 'KL, nats a token' 'set yrange [0:*]'
band behaviour_ratio_p01 behaviour_ratio_p99 $orange 'current / sampled, 1 to 99 %'; band ratio_p01 ratio_p99 $blue 'current / old, 1 to 99 %'
curve ratio_min $grey 'smallest, largest' "$steps" 'with lines dt 3 lw 1'
if has "$steps" ratio_max; then plots+=("\"$steps\" using 1:\"ratio_max\" with lines dt 3 lw 1 lc rgb \"$grey\" notitle"); fi
panel 'ratio of probabilities' 'set yrange [0:3 < *]'

curves_by_age() {  # KEY: with points, since not every step has tokens of every age
  local age colours=("$green" "$blue" "$purple" "$red")
  for age in $ages; do curve "$1.$age" "${colours[age]}" "$age behind" "$steps" 'with linespoints pt 7 ps 0.4 lw 1'; done
}
curves_by_age token_share_by_age
panel 'tokens, by versions behind (0 to 3)' 'set yrange [0:1]'
curves_by_age clip_share_by_age
panel 'clipped, by versions behind (0 to 3)' 'set yrange [0:*]'
curve behaviour_effective_token_share $orange 'of current / sampled'; curve effective_token_share $blue 'of the weights that count'
panel 'effective sample size, share' 'set yrange [0:1]'

curve clip_low_share $blue 'at the lower bound'; curve clip_high_share $orange 'at an upper bound'; curve correction_capped_share $red 'weight cut'; curve masked_share $grey masked
panel 'share of tokens' 'set yrange [0:*]'
curve grad_norm black all; curve grad_norm_embedding $green embedding; curve grad_norm_attention $blue attention; curve grad_norm_mlp $orange MLP
curve grad_norm_norms $purple norms; curve grad_norm_head $red head
panel 'gradient norm' 'set logscale y; set offsets 0, 0, 0, 0'
band advantage_min advantage_max $light 'smallest to largest'; curve advantage_std $blue 'standard deviation'
panel advantage

curve loss $blue loss
panel loss
curve lr $blue 'learning rate'
panel 'learning rate' 'set yrange [0:*]; set format y "%.1e"'
panels+='set format y "%g"'$'\n'
curve tokens_per_s $orange generation "$sampled"; curve tokens_per_s $blue training
panel 'tokens/s while busy' 'set yrange [0:*]'

# Seconds on top of each other, the wait for the claim last.
sum='' previous='0'
for part in forward_s:$blue backward_s:$light optimizer_s:$green publish_s:$purple checkpoint_s:$grey wait_s:$orange; do
  key=${part%%:*}
  has "$steps" "$key" || continue
  sum+=${sum:+ + }"column(\"$key\")"
  plots+=("\"$steps\" using 1:($previous):($sum) with filledcurves fs solid 0.8 noborder lc rgb \"${part#*:}\" title \"${key%_s}\"")
  previous=$sum
done
panel 'seconds a step' 'set yrange [0:*]'
curve peak_share $green 'of the peak of matrix products'
if has "$steps" memory_bytes; then plots+=("\"$steps\" using 1:(column(\"memory_bytes\") / 2**30) axes x1y2 with lines lw 2 lc rgb \"$grey\" title \"memory, GiB\""); fi
panel 'share of the machine' 'set yrange [0:1]; set y2range [0:*]; set ytics nomirror; set y2tics'
panels+='unset y2tics; set ytics mirror; unset y2range'$'\n'
curve held $green held "$buffered"; curve unfinished $orange 'of them unfinished' "$buffered"
panel 'rollouts in the buffer' 'set yrange [0:*]'

draw() {  # TERMINAL FILE
  local last
  last=$(tail -n 1 "$steps" | cut -f1)
  gnuplot 2>"$work/log" <<PLOT || { cat "$work/log" >&2; die 1 "gnuplot could not draw $2"; }
set terminal $1
set output "$2"
set datafile separator tab
set datafile missing "nan"
set datafile columnheaders
set xrange [0:$((last > 0 ? last : 1))]
set multiplot layout 6,3 title "$(basename "$run")" font ",16"
set grid lc rgb "#dddddd"; set border lc rgb "#777777"; set xlabel "step" offset 0, 0.5; set key above left font ",10" samplen 2; set tics font ",10"; set offsets 0, 0, graph 0.05, 0
set lmargin 10; set rmargin 4; set tmargin 3.3; set bmargin 2.6
$panels
unset multiplot
PLOT
}
draw 'svg size 1500,2160 background rgb "white"' report.svg
draw 'pngcairo size 1500,2160' report.png

# total FILE KEY: the sum of that key's column; a step that was trained again after a restart counts once.
total() { by_step "$1" "$2" | tail -n +2 | awk -F'\t' '$2 != "nan" { sum += $2 } END { printf "%d", sum }'; }
last_of() { value_of "$1" $buffer | tail -n 1; }  # KEY
{
  printf 'rollouts           %d trained in %d steps; %d of them were continued under newer weights or after an interruption\n' \
    "$(($(total $trainer rollouts_trained) + $(total $trainer rollouts_skipped)))" "$(tail -n +2 "$steps" | grep -c .)" "$(total $trainer rollouts_continued)"
  if [ -s $buffer ]; then
    printf 'still buffered     %d rollouts, %d of them unfinished; %d tokens\n' "$(last_of held_rollouts)" \
      "$(tail -n 1 "$buffered" | cut -f3)" "$(last_of held_tokens)"
  fi
  awk -F'\t' 'NR > 1 && $3 != "nan" { sum += $3; n++ } END { if (n) printf "tokens per second  %.0f generated", sum / n }' "$sampled"
  awk -F'\t' -v i="$(number_of "$steps" tokens_per_s)" 'NR > 1 { sum += $i; n++ } END { printf ", %.0f trained (each while busy)\n", sum / n }' "$steps"
} >summary.txt
echo "$run/report.svg"
