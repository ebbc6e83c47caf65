# A rank that is killed or stopped makes the others exit 6, naming it, whoever waits for whom; the run then goes on, and two ranks give the same weights
# as two that were not disturbed.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
. "$APRIL_SOURCE/tests/cli/grpo-step/ranks.bash"
write_claims claims.stream
size=$(stat -c %s claims.stream)
mkfifo pipe

# disturb SIGNAL RANK: two ranks have trained a step when one of them gets the signal; the other one's end is in status, seconds, other.err.
disturb() {
  local other=$((1 - $2)) begin
  rm -rf run
  rank 0/2 run --in pipe --out steps.stream --checkpoint-every 1 2>0.err & pids[0]=$!
  rank 1/2 run --checkpoint-every 1 2>1.err & pids[1]=$!
  exec 3>pipe
  head -c $((size * 4 / 10)) claims.stream >&3
  for _ in $(seq 200); do [ -e run/checkpoints/step-00000001/manifest.json ] && break; sleep 0.05; done
  sleep 0.2
  kill "-$1" "${pids[$2]}"
  begin=$SECONDS status=0
  { tail -c +$((size * 4 / 10 + 1)) claims.stream >&3 || true; } 2>/dev/null &
  wait "${pids[$other]}" || status=$?
  seconds=$((SECONDS - begin))
  exec 3>&-
  kill -KILL "${pids[$2]}" 2>/dev/null || true
  wait
  cp $other.err other.err
}

for signal in KILL STOP; do
  for lost in 0 1; do
    disturb $signal $lost
    [ $status -eq 6 ] || { echo "exit $status of rank $((1 - lost)) after SIG$signal to rank $lost"; cat other.err; exit 1; }
    grep -q "rank $lost (.*, process ${pids[$lost]}) is lost" other.err || { echo "after SIG$signal to rank $lost:"; cat other.err; exit 1; }
    [ $signal = STOP ] || grep -q 'is lost: its connection closed (..*)$' other.err || { echo "why is not told:"; cat other.err; exit 1; }
    [ $seconds -le 7 ] || { echo "noticed after $seconds s"; exit 1; }  # --rank-timeout-s is 2
  done
done

# What is left goes on, alone or together.
cp -r run again
train whole --model "$model" --in claims.stream --out whole.stream 2>/dev/null
together two claims.stream 2>/dev/null
train run --in claims.stream --out steps.stream 2>stderr
grep -q 'starts at step 1 from checkpoint' stderr
together again claims.stream 2>stderr
grep -q 'starts at step 1 from checkpoint' stderr
for version in 2 3 4; do
  cmp <(weights run $version) <(weights whole $version)
  cmp <(weights again $version) <(weights two $version)
done
