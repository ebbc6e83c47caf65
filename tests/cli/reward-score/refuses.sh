# What reward-score refuses, with the exit code that says why; and how a stopped stream passes.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/reward-score/common.bash"
write_rollouts in.stream

fails 'unknown scorer' 2 score --scorer nonsense --in in.stream --out out.stream
! grep 'read 0' stderr || { echo "a summary of nothing"; exit 1; }
fails 'unknown scorer' 2 reward-score --print-config --scorer nonsense
fails 'MAX:BUFFER is needed' 2 reward-score --print-config --overlong 512
reward-score --print-config --scorer math --overlong 512:128 >config
grep -q '^scorer="math"$' config || { cat config; exit 1; }
fails 'known are exact, gsm8k, math, regex' 2 score --scorer nonsense --in in.stream --out out.stream
fails 'needs --pattern' 2 score --scorer regex --in in.stream --out out.stream
fails 'regular expression' 2 score --scorer regex --pattern '(' --in in.stream --out out.stream
fails 'is for --scorer regex' 2 score --pattern x --in in.stream --out out.stream
fails '--model is needed' 2 reward-score --in in.stream --out out.stream
fails 'no model at nowhere: no such file' 1 reward-score --model nowhere --in in.stream --out out.stream
fails 'no tokenizer found' 1 reward-score --model . --in in.stream --out out.stream
fails 'the stream was made with' 4 reward-score --model "${tokenizer/smollm/gpt2}" --in in.stream --out out.stream
[ ! -e out.stream ] || { echo "a refused run left a stream"; exit 1; }

head -c 600 in.stream >cut.stream
fails '' 3 score --in cut.stream --out out.stream
[ ! -e out.stream ] || { echo "a truncated input made a whole stream"; exit 1; }

write_rollouts stopped.stream stopped
fails 'errors 1' 75 score --max-errors 1 --in stopped.stream --out stopped-out.stream
fails '' 75 score --max-errors 1 --in stopped-out.stream --out again.stream

# The program before failed: what it wrote is scored and passed on, in a stream that says so too.
write_rollouts failed.stream error
fails 'the program that wrote the input failed' 1 score --max-errors 1 --in failed.stream --out failed-out.stream
fails 'read 6 records.*ended error' 1 rollout-cat --check failed-out.stream

fails 'No space left' 1 bash -c 'reward-score --list >/dev/full'
expect "$(reward-score --list | cut -d' ' -f1 | tr '\n' ' ')" "exact gsm8k math regex " "the list"
