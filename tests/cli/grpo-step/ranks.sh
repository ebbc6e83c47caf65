# Ranks by options and by variables: who is refused, what two of them make, how they stop.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
. "$APRIL_SOURCE/tests/cli/grpo-step/ranks.bash"
write_claims claims.stream

# Ranks with other options do not begin, and both say what differs.
rank 0/2 apart --in claims.stream --out none.stream 2>first.err & first=$!
fails 'the ranks disagree on --lr: rank 0 (.*) has 0.001, rank 1 (.*) has 0.002' 4 apart rank 1/2 apart --lr 2e-3
status=0; wait $first || status=$?
expect $status 4 "exit of rank 0"
grep -q 'the ranks disagree on --lr' first.err
[ ! -e apart/weights ] || { echo "something was published"; exit 1; }
# Another kernel set is another forward.
rank 0/2 apart --in claims.stream --out none.stream --kernels portable 2>/dev/null & first=$!
fails 'the ranks disagree on ' 4 apart rank 1/2 apart --kernels auto --precision f32
wait $first || true

# A rank that does not come is not waited for longer than was said.
fails 'rank 1 of 2 did not come within' 6 apart rank 0/2 apart --in claims.stream --out none.stream --rank-timeout-s 1
fails 'rank 0 at .* did not come within' 6 apart rank 1/2 apart --rank-timeout-s 1
fails 'RANK is set, and WORLD_SIZE is not' 2 env RANK=1 grpo-step --model "$model" --from apart/checkpoints --publish apart/weights

# What others' launchers and Slurm set. Rank 0 alone writes.
together options claims.stream
export MASTER_ADDR=127.0.0.1 MASTER_PORT=$port
(RANK=1 WORLD_SIZE=2 train variables --model "$model" >nothing 2>/dev/null) & second=$!
RANK=0 WORLD_SIZE=2 train variables --model "$model" --in claims.stream --metrics metrics.jsonl >variables.stream 2>/dev/null
wait $second
(SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 train slurm --model "$model" 2>/dev/null) & second=$!
SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 train slurm --model "$model" --in claims.stream --out slurm.stream 2>/dev/null
wait $second
[ ! -s nothing ] || { echo "rank 1 wrote to stdout"; exit 1; }
expect "$(wc -l <metrics.jsonl)" 4 "lines of metrics"
for version in 1 2 3 4; do
  cmp <(weights options $version) <(weights variables $version)
  cmp <(weights options $version) <(weights slurm $version)
done
for file in optimizer model; do cmp options/checkpoints/step-00000004/$file.safetensors slurm/checkpoints/step-00000004/$file.safetensors; done
unset MASTER_ADDR MASTER_PORT

# A recorded step is replayed by as many ranks.
replay() { grpo-step --model "$model" --from options/checkpoints --publish options/weights --lr 1e-3 --replay 3 --rank-address "127.0.0.1:$port" "$@"; }
replay --rank 1/2 2>/dev/null & second=$!
replay --rank 0/2 --in claims.stream >verdict 2>/dev/null
wait $second
grep -q 'step 3: equal in every bit' verdict || { cat verdict; exit 1; }

# SIGTERM reaches all at once: rank 0 decides, and all end with 75 once everything is saved.
mkfifo pipe
rank 0/2 stopped --in pipe --out stopped.stream 2>stderr & first=$!
rank 1/2 stopped 2>second.err & second=$!
exec 3>pipe
size=$(stat -c %s claims.stream)
head -c $((size * 4 / 10)) claims.stream >&3
for _ in $(seq 200); do [ "$(cat stopped/weights/LATEST 2>/dev/null)" = 1 ] && break; sleep 0.05; done
kill -TERM $first $second
sleep 0.2
tail -c +$((size * 4 / 10 + 1)) claims.stream >&3 2>/dev/null || true
exec 3>&-
for process in $first $second; do
  status=0; wait $process || status=$?
  expect $status 75 "exit after SIGTERM"
done
[ -e stopped/checkpoints/step-00000001/manifest.json ] || { cat stderr; ls stopped/checkpoints; exit 1; }

# Over GPUs where there is none: refused at once, and rank 0 is not waited for.
status=0
CUDA_VISIBLE_DEVICES="" apart rank 1/2 nowhere --rank-backend nccl 2>stderr || status=$?
expect $status 2 "exit without a GPU"
grep -q 'rank-backend nccl' stderr || { cat stderr; exit 1; }
