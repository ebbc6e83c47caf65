#!/usr/bin/env bash
# What people get wrong, or come back to later: each message says what is so and what to type.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"

# A model that was given by a relative path is found from everywhere; one that moved is asked for.
cp -r "$model" copied
prompts 20 >prompts.jsonl
partial-buffer init -s b --model copied --group-size 4 --groups-per-step 2 --in-flight 16 --max-tokens 64 --retain-steps 1000 --admission window:4 --seed 1 2>log
grep -q "settings: --group-size 4 --groups-per-step 2 --in-flight 16" log && grep -q -- "--admission window:4" log && grep -q "model $PWD/copied" log ||
  { cat log; exit 1; }
partial-buffer init -s lonely --model copied --group-size 1 --max-tokens 64 2>log
grep -q "warning: --group-size 1: grpo-step leaves out groups of one" log || { cat log; exit 1; }
partial-buffer init -s pairs --model copied --group-size 2 --filter nonzero-std --max-tokens 64 2>log
grep -q "warning: --filter nonzero-std with --group-size 2: of yes-or-no rewards at least half" log || { cat log; exit 1; }
mkdir elsewhere
(cd elsewhere && partial-buffer add -q -s ../b --prompts ../prompts.jsonl)
mv copied moved
fails "hint: if it is elsewhere now: --model PATH" 1 partial-buffer add -s b --prompts prompts.jsonl
fails "hint: if it is elsewhere now: --model PATH" 1 partial-buffer grep -s b x
partial-buffer export -q -s b --model moved >/dev/null
mv moved copied
partial-buffer init --help | grep -A1 -e "--seed " | grep "seed of the run: a token's draw depends on it" >/dev/null || { echo "what --seed is for"; exit 1; }

# A claim that is not made has set its filter all the same, and says so.
fails "the filter nonzero-std holds from now on all the same" 7 partial-buffer claim -s b --filter nonzero-std
partial-buffer stat -q -s b | grep "^filter     nonzero-std since a claim --filter; init said none" >/dev/null || { partial-buffer stat -s b; exit 1; }
! partial-buffer claim -q -s b --filter none >/dev/null 2>&1 || { echo "a claim of nothing"; exit 1; }

# A commit that reads no step.
claim() { until partial-buffer claim -q -s b "$@" >claim 2>/dev/null; do partial-buffer take -q -s b --worker w | generate | partial-buffer put -q -s b; done; }
claim
partial-buffer commit -s b --in claim 2>log
grep -q "warning: the stream has no step record: nothing was committed; put takes rollouts" log || { cat log; exit 1; }
# Given back twice.
id=$(partial-buffer stat -q -s b | sed -n 's/^claim *\([0-9a-f]*\) of step.*/\1/p')
partial-buffer abandon -q -s b "$id"
fails "claim $id was given back before" 2 partial-buffer abandon -s b "$id"
fails "is not one of this buffer" 2 partial-buffer abandon -s b 0123456789abcdef

# Checkpoints that are not where they are looked for: not there yet is no error, gone is one.
for ((i = 0; i < 3; ++i)); do claim --checkpoints checkpoints && train <claim | partial-buffer commit -q -s b; done
[ "$(number first_unconsumed_step)" -gt 0 ] || { echo "no checkpoint"; exit 1; }
fails "chekpoints does not exist, but a checkpoint of this run contains 3 steps" 2 partial-buffer claim -s b --checkpoints chekpoints
mkdir empty
fails "empty has no whole checkpoint" 2 partial-buffer claim -s b --checkpoints empty
expect "$(number next_step)" 3 "steps that were claimed"

# After a rewind: what is newer than the version gone back to is told as that, and the longest is none that was undone.
claim --checkpoints checkpoints && train <claim | partial-buffer commit -q -s b
partial-buffer take -q -s b --worker w | APRIL_VERSION=4 generate | partial-buffer put -q -s b
partial-buffer rewind -q -s b --to checkpoints/step-00000003
partial-buffer stat -q -s b >stat
grep -q "^staleness .*; [0-9]* rollouts newer than the version that a rewind went back to" stat && ! grep -q "^staleness.*-[0-9]" stat || { cat stat; exit 1; }
partial-buffer drop -q -s b --reason "wrong label" "$(partial-buffer ls -q -s b --groups --json --state ready,open --limit 1 | sed 's/.*"group_id":"\([0-9a-f]*\)".*/\1/')"
partial-buffer stat -q -s b | grep "^waste .*dropped [0-9]* ([0-9]* tokens): .*wrong label 4," >/dev/null || { partial-buffer stat -s b; exit 1; }

# A folder that is not one's own.
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
  chmod 755 . b b/journal
  if setpriv --reuid 65534 --clear-groups test -r b/manifest.json 2>/dev/null; then
    for command in compact take audit; do
      status=0
      setpriv --reuid 65534 --clear-groups "$(command -v partial-buffer)" $command -q -s b >/dev/null 2>stderr || status=$?
      [ $command = audit ] && { expect $status 0 "exit of an audit by somebody else" && continue; }
      [ $status -eq 1 ] && grep -q "hint: this user may not do that" stderr || { echo "exit $status of $command"; cat stderr; exit 1; }
    done
    setpriv --reuid 65534 --clear-groups "$(command -v partial-buffer)" stat -q -s b >/dev/null
  fi
fi

# Every column in JSON, and every key of it a column.
partial-buffer ls -q -s b --json --limit 1 | python3 -c '
import json, subprocess, sys
columns = [line.split()[0] for line in subprocess.run(["partial-buffer", "ls", "--columns", "help"], capture_output=True, text=True).stdout.splitlines()]
assert sorted(json.load(sys.stdin)) == sorted(columns), columns'

# Who asks for a number gets it whatever the next step needs: without any, it is told who holds the rest.
rm -r b
make 20
claim
partial-buffer take -q -s b --rollouts 1000 --worker other >/dev/null
fails "nothing to take: rollouts are leased by other ([0-9]*)" 7 partial-buffer take -s b --worker w --rollouts 5
partial-buffer take -s b --worker w 2>log >/dev/null
grep -q "nothing to take: what is ready or claimed is enough for the next step" log || { cat log; exit 1; }
