#!/usr/bin/env bash
# run.sh [options]: simulates the runs that the APRIL paper lacks, and writes tables, plots and RESULTS.md. Minutes on two processors; no GPU, no model.
#
#   --out DIR     where to write (default: beside this script: results/ and RESULTS.md)
#   --only TABLE  only this table (again if wanted): schedules, over-issue, group-sizes, lengths, cpu
#   --jobs N      simulations at once (default: the processors)
#   --seed N      of lengths (default 1)
#   --quick       few and small steps: to see that it works, not to believe in
# Each run is one april-simulate (--help): the buffer's policies and the generator's scheduler on a virtual clock. runs.jsonl has one line a run.
. "$(dirname "$0")/../lib.sh"
usage() { sed -n '2,/^\. /{/^\. /d;s/^# \{0,1\}//p}' "$0"; }

out=$here/ablations jobs=$(nproc) seed=1 quick=false only=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --quick) quick=true ;;
    --out | --jobs | --seed) [ $# -ge 2 ] || die 2 "$1 needs a value"; printf -v "${1#--}" %s "$2"; shift ;;
    --only)
      [ $# -ge 2 ] || die 2 "--only needs a table"
      case $2 in schedules | over-issue | group-sizes | lengths | cpu) only+=" $2 " ;; *) die 2 "no table is called $2; try --help" ;; esac
      shift ;;
    *) die 2 "unknown option $1; try --help" ;;
  esac
  shift
done
need_programs april-simulate
mkdir -p "$out/results"
results=$(realpath "$out/results")
work=$(mktemp -d "${TMPDIR:-/tmp}/april-ablations.XXXXXX")
trap 'rm -rf "$work"' EXIT

# What every run has in common: the paper's step of 32 prompts with 8 rollouts each, responses of up to 16,384 tokens; 16 us a token make training
# a tenth of a synchronous step, which is the share that the paper has in mind.
gpu=h100-qwen3-8b cpu=smollm2-135m-zen4
common="--seed $seed --steps 20 --warm-up 4 --train-token-us 16" shape='--groups 32 --group-size 8' budget='--max-tokens 16384'
sizes='4 8 16 32' sync_slots='64 128 192 256' rollouts=256 window='48 64 96' cpu_shape='--groups 8 --group-size 8 --prompt-tokens 96 --max-tokens 1024 --train-token-us 0'
if $quick; then
  common="--seed $seed --steps 6 --warm-up 2 --train-token-us 16" shape='--groups 6 --group-size 4' budget='--max-tokens 1024 --length-scale 0.0625'
  sizes='2 4' sync_slots='12 24' rollouts=24 window='9 12' cpu_shape='--groups 4 --group-size 4 --prompt-tokens 96 --max-tokens 256 --length-scale 0.25 --train-token-us 0'
fi

# run TABLE LABEL OPTIONS...: notes a line of a table; the runs are made afterwards, side by side, each once for all lines that it stands in.
planned=0
declare -A made_as=()
run() {
  local table=$1 label=$2
  shift 2
  case $only in '' | *" $table "*) ;; *) return 0 ;; esac
  if [ -z "${made_as[$*]:-}" ]; then
    made_as[$*]=$planned
    printf '%s\t%s\n' $planned "$common $*" >>"$work/runs"
    planned=$((planned + 1))
  fi
  printf '%s\t%s\t%s\n' "${made_as[$*]}" "$table" "$label" >>"$work/lines"
}

on_gpu="--profile $gpu $shape $budget"
for slots in $sync_slots; do run schedules "sync, $slots slots" "$on_gpu" --schedule sync --slots "$slots"; done
run schedules "wave 2x (paper)" "$on_gpu" --schedule wave --over-issue 2
run schedules "top-up 2x, recompute" "$on_gpu" --schedule top-up --over-issue 2
run schedules "top-up 2x, keep" "$on_gpu" --schedule top-up --over-issue 2 --kv keep
for k in 1 2; do run schedules "top-up, assigned:$k" "$on_gpu" --schedule top-up --over-issue $((k + 1)) --admission assigned:$k --kv keep; done
for w in $window; do run schedules "top-up 2x, window:$w" "$on_gpu" --schedule top-up --admission window:"$w" --kv keep; done

for x in 1 1.25 1.5 2 3 4; do
  if [ "$x" = 1 ]; then run over-issue "sync" "$on_gpu" --schedule sync; continue; fi
  run over-issue "wave" "$on_gpu" --schedule wave --over-issue $x
  run over-issue "top-up, recompute" "$on_gpu" --schedule top-up --over-issue $x
  run over-issue "top-up, keep" "$on_gpu" --schedule top-up --over-issue $x --kv keep
done

for size in $sizes; do
  of="--profile $gpu --groups $((rollouts / size)) --group-size $size $budget"
  run group-sizes "sync" "$of" --schedule sync
  run group-sizes "wave" "$of" --schedule wave --over-issue 2
  run group-sizes "top-up, keep" "$of" --schedule top-up --over-issue 2 --kv keep
done

lengths() {  # NAME OPTIONS...
  run lengths "$1: sync" "$on_gpu" --schedule sync "${@:2}"
  run lengths "$1: wave" "$on_gpu" --schedule wave --over-issue 2 "${@:2}"
  run lengths "$1: top-up, recompute" "$on_gpu" --schedule top-up --over-issue 2 "${@:2}"
  run lengths "$1: top-up, keep" "$on_gpu" --schedule top-up --over-issue 2 --kv keep "${@:2}"
}
lengths "lognormal 2500, 0.9"
lengths "lognormal 7000, 0.6" --lengths lognormal:7000,0.6
lengths "heavy tail 1200, 1.3" --lengths heavy-tail:1200,1.3
$quick || lengths "measured (SmolLM2) x 16" --lengths profile:$cpu --length-scale 16

for slots in 16 32 64; do run cpu "sync, $slots slots" --profile $cpu "$cpu_shape" --schedule sync --slots $slots; done
for kv in recompute keep; do
  run cpu "wave 2x, $kv" --profile $cpu "$cpu_shape" --schedule wave --kv $kv
  run cpu "top-up 2x, $kv" --profile $cpu "$cpu_shape" --schedule top-up --kv $kv
  run cpu "top-up 1.5x, $kv" --profile $cpu "$cpu_shape" --schedule top-up --over-issue 1.5 --kv $kv
done

say "$planned simulations, $jobs at once"
export work
one() {
  IFS=$'\t' read -r number options <<<"$1"
  # shellcheck disable=SC2086
  april-simulate -q $options >"$work/$number.out" 2>"$work/$number.err" || { echo "april-simulate $options:" >&2; cat "$work/$number.err" >&2; return 255; }
}
export -f one
tr '\n' '\0' <"$work/runs" | xargs -0 -n 1 -P "$jobs" bash -c 'one "$0"' || die 1 "a simulation failed"
while IFS=$'\t' read -r number table label; do sed "s/^{\"label\":\"\"/{\"table\":\"$table\",\"label\":\"$label\"/" "$work/$number.out"; done <"$work/lines" >"$results/runs.jsonl"

# Tables: a header line, then a run a line.
columns='label over_issue group_size slots trained_tokens_per_s trained_tokens_per_s_with_training generated_tokens_per_s idle_share prefill_per_trained stale_share staleness_mean staleness_max trained_length_mean sampled_length_mean evictions'
table() {  # NAME
  printf '%s\n' "$columns" | tr ' ' '\t'
  grep "^{\"table\":\"$1\"" "$results/runs.jsonl" | awk -v columns="$columns" '
    function field(key,   at, rest) {
      at = index($0, "\"" key "\":"); if (!at) return "nan"
      rest = substr($0, at + length(key) + 3)
      if (substr(rest, 1, 1) == "\"") { rest = substr(rest, 2); return substr(rest, 1, index(rest, "\"") - 1) }
      match(rest, /^[-+0-9.eE]+/); return substr(rest, 1, RLENGTH)
    }
    { n = split(columns, names, " "); line = ""
      for (i = 1; i <= n; i++) { value = field(names[i]); line = line (i > 1 ? "\t" : "") value }
      print line }'
}
tables=$(cut -f 2 "$work/lines" | sort -u)
for name in $tables; do table "$name" >"$results/$name.tsv"; done

draw() {  # FILE, gnuplot commands on stdin
  { printf 'set terminal svg size 860,460 font "sans,12" background rgb "white"\nset output "%s"\nset datafile separator "\\t"\nset grid\nset key below\n' "$results/$1"; cat; } | gnuplot
}
if ! command -v gnuplot >/dev/null; then
  say "gnuplot is missing, so there are no plots; pipelines/setup.sh installs it"
else
  if [ -e "$results/over-issue.tsv" ]; then
    of() { awk -F'\t' -v label="$1" 'NR > 1 && ($1 == label || $1 == "sync")' "$results/over-issue.tsv"; }
    for label in wave "top-up, recompute" "top-up, keep"; do of "$label" >"$work/${label// /}"; done
    draw over-issue.svg <<PLOT
set title "Over-issue: $gpu, simulated"
set xlabel "rollouts under way, as a multiple of a step's need"; set ylabel "trained tokens/s"; set y2label "mean staleness, versions"
set yrange [0:*]; set y2range [0:*]; set y2tics; set ytics nomirror
plot "$work/wave" using 2:5 with linespoints lw 2 lc rgb "#fd8d3c" title "wave (paper)", "$work/top-up,recompute" using 2:5 with linespoints lw 2 lc rgb "#6baed6" title "top-up, recompute", \
  "$work/top-up,keep" using 2:5 with linespoints lw 2 lc rgb "#08519c" title "top-up, keep", \
  "$work/wave" using 2:11 axes x1y2 with lines dt 2 lc rgb "#fd8d3c" title "its staleness", "$work/top-up,keep" using 2:11 axes x1y2 with lines dt 2 lc rgb "#08519c" title "top-up's staleness"
PLOT
  fi
  for name in schedules lengths; do
    [ -e "$results/$name.tsv" ] || continue
    draw "$name.svg" <<PLOT
set title "$name: $gpu, simulated"
set style fill solid 0.8; set boxwidth 0.7; set yrange [0:*]; set ylabel "trained tokens/s"; set y2label "idle share"; set y2range [0:1]; set y2tics; set ytics nomirror
set xtics rotate by -35 font ",9"; set bmargin 10; set rmargin 16; set key outside top center horizontal
plot "$results/$name.tsv" every ::1 using 0:5:xtic(1) with boxes lc rgb "#6baed6" title "trained tokens/s", "" every ::1 using 0:8 axes x1y2 with points pt 7 lc rgb "#d6616b" title "idle share of slot-time"
PLOT
  done
fi
. "$here/ablations/results.sh"
say "wrote $out/RESULTS.md and $results/"
