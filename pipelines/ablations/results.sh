# Sourced by run.sh: $out/RESULTS.md from the tables in $results.

# at TABLE LABEL COLUMN: one number; of several lines with that label the first.
at() {
  awk -F'\t' -v label="$2" -v column="$3" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) c = i; next } $1 == label { print $c; exit }' "$results/$1.tsv"
}
# best TABLE PREFIX COLUMN: the label of the line that begins so and has most of the column.
best() {
  awk -F'\t' -v prefix="$2" -v column="$3" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) c = i; next }
    index($1, prefix) == 1 && $c > most { most = $c; label = $1 } END { print label }' "$results/$1.tsv"
}
gain() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%+.0f %%", (a / b - 1) * 100 }'; }
percent() { awk -v x="$1" 'BEGIN { printf "%.1f %%", x * 100 }'; }
verdict() { awk -v x="$1" -v least="$2" -v most="$3" 'BEGIN { print (x >= least && x <= most) ? "reached" : "missed" }'; }

# markdown TABLE: what a reader needs of it; the gain is in trained tokens/s, over the best synchronous line of the same setting.
markdown() {
  echo '| run | under way | slots | trained tokens/s | gain | with training | idle slot-time | read again per trained token | stale tokens | staleness mean, max | trained length | of sync'"'"'s |'
  echo '|---|---|---|---|---|---|---|---|---|---|---|---|'
  awk -F'\t' -v table="$1" '
    NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; next }
    { line[NR] = $0; split($1, part, ": "); key = table == "group-sizes" ? $c["group_size"] : (table == "lengths" ? part[1] : "all"); of[NR] = key
      if ($1 ~ /sync/ && $c["trained_tokens_per_s"] > rate[key]) { rate[key] = $c["trained_tokens_per_s"]; all[key] = $c["trained_tokens_per_s_with_training"]; length_of[key] = $c["trained_length_mean"] } }
    END {
      for (n = 2; n <= NR; n++) { $0 = line[n]; k = of[n]
        label = table == "group-sizes" ? $c["group_size"] " a group: " $1 : $1
        printf "| %s | %.4gx | %d | %.0f | %+.0f %% | %+.0f %% | %.1f %% | %.2f | %.0f %% | %.2f, %d | %.0f | %+.1f %% |\n", label, $c["over_issue"], $c["slots"], $c["trained_tokens_per_s"],
          ($c["trained_tokens_per_s"] / rate[k] - 1) * 100, ($c["trained_tokens_per_s_with_training"] / all[k] - 1) * 100, $c["idle_share"] * 100, $c["prefill_per_trained"],
          $c["stale_share"] * 100, $c["staleness_mean"], $c["staleness_max"], $c["trained_length_mean"], ($c["trained_length_mean"] / length_of[k] - 1) * 100
      } }' "$results/$1.tsv"
  echo
}

{
  cat <<TEXT
# What schedules give: simulated

Made by \`pipelines/ablations/run.sh\`; nothing here ran on a GPU. The buffer's admission and order of issue and the generator's scheduler are the real ones; how
long a step takes comes from a profile (\`lib/rollout/profiles/\`, which say where each number is from), lengths are drawn, training only takes time. All
times are those of a virtual clock. Steps: $common. "Idle slot-time" and "trained tokens/s" count generation alone, as the paper does; "with training" counts both.
"Read again" is every token that was read instead of made: prompts, and prefixes that were computed anew. Staleness counts policy versions a token. The trained
length shows the bias towards short responses, against the synchronous run's.

TEXT
  if [ -e "$results/schedules.tsv" ]; then
    sync=$(best schedules "sync" trained_tokens_per_s) ours=$(best schedules "top-up 2x" trained_tokens_per_s)
    sync_rate=$(at schedules "$sync" trained_tokens_per_s) sync_length=$(at schedules "$sync" trained_length_mean)
    echo "## The bars"
    echo
    echo "Against the synchronous schedule at its best slot count (\"$sync\"), with twice a step's rollouts under way:"
    echo
    echo '| | bar | paper-style wave | top-up, recompute | top-up, keep |'
    echo '|---|---|---|---|---|'
    row() {  # NAME BAR LEAST MOST COLUMN HOW
      printf '| %s | %s |' "$1" "$2"
      local label x
      for label in "wave 2x (paper)" "top-up 2x, recompute" "top-up 2x, keep"; do
        x=$(at schedules "$label" "$5")
        case $6 in
          gain) printf ' %s: %s |' "$(gain "$x" "$sync_rate")" "$(verdict "$(awk -v a="$x" -v b="$sync_rate" 'BEGIN { print a / b - 1 }')" "$3" "$4")" ;;
          share) printf ' %s: %s |' "$(percent "$x")" "$(verdict "$x" "$3" "$4")" ;;
          length) printf ' %s: %s |' "$(awk -v a="$x" -v b="$sync_length" 'BEGIN { printf "%+.1f %%", (a / b - 1) * 100 }')" "$(verdict "$(awk -v a="$x" -v b="$sync_length" 'BEGIN { print a / b - 1 }')" "$3" "$4")" ;;
        esac
      done
      echo
    }
    row "trained tokens/s" "at least +44 %" 0.44 1e9 trained_tokens_per_s gain
    row "idle slot-time" "at most 5 %" -1 0.05 idle_share share
    row "mean trained length, against sync's" "within 5 %" -0.05 0.05 trained_length_mean length
    echo
    echo "![Schedules](results/schedules.svg)"
    echo
  fi
  if [ -e "$results/lengths.tsv" ]; then
    cat <<'TEXT'
## The paper's table beside ours

The paper (arXiv 2509.18521) measured generated tokens a second of rollout time with and without APRIL at 2x, on 8 GPUs, responses of up to 16,384 tokens:

| model, algorithm | DAPO-Math-17k | DeepScaleR | DeepMath-103K |
|---|---|---|---|
| Qwen3-4B, GRPO | +24 % | +31 % | +35 % |
| Qwen3-8B, GRPO | +26 % | +35 % | **+44 %** |
| Qwen3-4B, DAPO | +8 % | +11 % | +10 % |
| Qwen3-8B, DAPO | +8 % | +8 % | +10 % |

The same figure here, over the synchronous schedule with a slot for each rollout. How much there is to gain depends on the lengths, which the paper does not publish:

| lengths | wave, as in the paper | top-up, recompute | top-up, keep |
|---|---|---|---|
TEXT
    awk -F'\t' 'NR > 1 { split($1, part, ": "); if (!(part[1] in seen)) { seen[part[1]] = 1; print part[1] } }' "$results/lengths.tsv" | while read -r name; do
      of_sync=$(at lengths "$name: sync" generated_tokens_per_s)
      printf '| %s |' "$name"
      for how in wave "top-up, recompute" "top-up, keep"; do printf ' %s |' "$(gain "$(at lengths "$name: $how" generated_tokens_per_s)" "$of_sync")"; done
      echo
    done
    echo
    echo "![Lengths](results/lengths.svg)"
    echo
  fi
  section() { [ ! -e "$results/$1.tsv" ] || { printf '## %s\n\n%s\n\n' "$2" "$3"; markdown "$1"; }; }
  section schedules "Schedules" "32 prompts x 8 rollouts a step. The buffer's admissions \`assigned:K\` and \`window:W\` bound which groups a step may take."
  section over-issue "Over-issue" "The paper has 2x alone. Top-up's price is staleness: compare lines of the same mean, for example top-up at 1.25x with a wave at 3x."
  [ ! -e "$results/over-issue.svg" ] || printf '![Over-issue](results/over-issue.svg)\n\n'
  section group-sizes "Group sizes" "As many rollouts a step, in groups of different sizes."
  section lengths "Length distributions" "Cut at 16,384 tokens; half of the variance, on the normal scale, is common to a prompt's rollouts. \"measured\": the lengths of SmolLM2-135M's answers to GSM8K, 16 times as long."
  section cpu "SmolLM2-135M on two cores of a Zen 4" "8 prompts x 8 rollouts a step, up to 1,024 tokens: the profile that \`rollout-gen --profile\` measured, with the lengths of the model's answers to GSM8K."
} >"$out/RESULTS.md"
