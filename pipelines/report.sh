#!/usr/bin/env bash
# report.sh RUN: draws a run's curves as RUN/report.svg and report.png and says in RUN/summary.txt what it made.
#
# Reward, response length (sampled against trained), tokens per second, staleness, buffer size and off-policy KL over the steps, from RUN/metrics/*.jsonl.
. "$(dirname "$0")/lib.sh"
case ${1:-} in "" | -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; [ "${1:-}" ] && exit 0 || exit 2 ;; esac
[ -d "$1" ] || die 2 "no run at $1: the folder that april.sh was given with --dir is wanted"
run=$(realpath "$1")
cd "$run"
command -v gnuplot >/dev/null || die 1 "gnuplot is missing; pipelines/setup.sh installs it"
trainer=metrics/grpo-step.jsonl generator=metrics/rollout-gen.jsonl buffer=metrics/buffer.jsonl
[ -s $trainer ] || die 1 "$run/$trainer is missing or empty: no step was trained yet"

# One row a trained step; a step that was trained again after a restart counts with its last line.
table() { paste "$@" | awk -F'\t' '{ row[$1] = $0 } END { for (step in row) print row[step] }' | sort -n; }
column() { value_of "$1" "$2"; }
unfinished() { paste <(column partial_rollouts $buffer) <(column leased_rollouts $buffer) <(column queued_rollouts $buffer) | awk '{ print $1 + $2 + $3 }'; }
steps=$(mktemp) sampled=$(mktemp) buffered=$(mktemp)
trap 'rm -f "$steps" "$sampled" "$buffered"' EXIT
table <(column step $trainer) <(column reward_mean $trainer) <(column response_mean_tokens $trainer) <(column tokens_per_s $trainer) \
  <(column stale_share $trainer) <(column truncated_share $trainer) <(column kl_behaviour_k3_nats $trainer) >"$steps"

# The generator counts from its start on: what a policy version sampled is the difference between its last line and the version's before.
if [ -s $generator ]; then
  paste <(column policy_version $generator) <(column time_s $generator) <(column tokens $generator) <(column finished $generator) <(column finished_tokens $generator) |
    awk -F'\t' '
      NR == 1 || $2 < time { tokens = finished = finished_tokens = 0 }  # a new process
      { gained[$1] += $3 - tokens; done[$1] += $4 - finished; length_sum[$1] += $5 - finished_tokens
        if ($3 > tokens) busy[$1] += $2 - time > 0 && $2 - time < 5 ? $2 - time : 0
        time = $2; tokens = $3; finished = $4; finished_tokens = $5 }
      END { for (v in gained) print v "\t" (done[v] ? length_sum[v] / done[v] : "nan") "\t" (busy[v] ? gained[v] / busy[v] : "nan") }' | sort -n >"$sampled"
fi
[ -s "$sampled" ] || printf '0\tnan\tnan\n' >"$sampled"
if [ -s $buffer ]; then
  table <(column step $buffer) <(column held_rollouts $buffer) <(unfinished) >"$buffered"
fi
[ -s "$buffered" ] || printf '0\tnan\tnan\n' >"$buffered"

draw() {  # TERMINAL FILE
  gnuplot <<PLOT
set terminal $1
set output "$2"
set multiplot layout 3,2 title "$(basename "$run")" font ",13"
set grid; set xlabel "step"; set key above
set ylabel "mean reward"; set yrange [0:*]; set offsets 0, 0, graph 0.05, 0
plot "$steps" using 1:2 with points pt 7 ps 0.5 lc rgb "#6baed6" title "step", "$steps" using 1:2 smooth sbezier lw 2 lc rgb "#08519c" title "smoothed"
set ylabel "tokens a response"
plot "$sampled" using 1:2 with lines lw 2 lc rgb "#fd8d3c" title "sampled", "$steps" using 1:3 with lines lw 2 lc rgb "#08519c" title "trained"
set ylabel "tokens/s while busy"
plot "$sampled" using 1:3 with lines lw 2 lc rgb "#fd8d3c" title "generation", "$steps" using 1:4 with lines lw 2 lc rgb "#08519c" title "training"
set ylabel "share"; set yrange [0:1]
plot "$steps" using 1:5 with lines lw 2 lc rgb "#756bb1" title "stale tokens", "$steps" using 1:6 with lines lw 2 lc rgb "#969696" title "truncated responses"
set ylabel "rollouts in the buffer"; set yrange [0:*]
plot "$buffered" using 1:2 with lines lw 2 lc rgb "#31a354" title "held", "$buffered" using 1:3 with lines lw 2 lc rgb "#a1d99b" title "of them unfinished"
set ylabel "nats a token"
plot "$steps" using 1:7 with lines lw 2 lc rgb "#d6616b" title "KL to the policies that sampled"
unset multiplot
PLOT
}
draw 'svg size 1100,1000 background rgb "white"' report.svg
draw 'pngcairo size 1100,1000' report.png

# total FILE KEY: the sum of that key's column; a step that was trained again after a restart counts once.
total() { table <(column step "$1") <(column "$2" "$1") | awk -F'\t' '$2 != "nan" { sum += $2 } END { printf "%d", sum }'; }
last_of() { value_of "$1" $buffer | tail -n 1; }  # KEY
{
  printf 'rollouts           %d trained in %d steps; %d of them were continued under newer weights or after an interruption\n' \
    "$(($(total $trainer rollouts_trained) + $(total $trainer rollouts_skipped)))" "$(grep -c . "$steps")" "$(total $trainer rollouts_continued)"
  if [ -s $buffer ]; then
    printf 'still buffered     %d rollouts, %d of them unfinished; %d tokens\n' "$(last_of held_rollouts)" \
      "$(unfinished | tail -n 1)" "$(last_of held_tokens)"
  fi
  awk -F'\t' '$3 != "nan" { sum += $3; n++ } END { if (n) printf "tokens per second  %.0f generated", sum / n }' "$sampled"
  awk -F'\t' '{ sum += $4; n++ } END { printf ", %.0f trained (each while busy)\n", sum / n }' "$steps"
} >summary.txt
echo "$run/report.svg"
