#!/usr/bin/env bash
# Rollouts that were put without a score, or whose grader failed: claim, take and stat say what to type, export --stream gives them to a scorer, and put
# takes their scores without ending anybody's leases.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
make 4
# score STATUS: every complete rollout of the stream gets that outcome, or none
score() { APRIL_REWARD=$1 unit_buffer '[.scorer]' -o /dev/null; }
partial-buffer take -q -s b --rollouts 12 --worker w | APRIL_ROUNDS=40 generate | score none >done
partial-buffer put -q -s b --in done
failed=$(in_state failed) complete=$(in_state complete)
expect $((failed + complete)) 12 "finished rollouts"
partial-buffer take -q -s b --rollouts 4 --worker slow >held
fails "$complete complete rollouts wait for a score (partial-buffer export -s DIR --state complete --stream |" 7 partial-buffer claim -s b
partial-buffer stat -q -s b >stat
grep -q "^unscored   $complete complete rollouts wait for a score: partial-buffer export" stat || { cat stat; exit 1; }
expect "$(number awaiting_score)" "$complete" "rollouts that await a score"

# A scorer that fails settles nothing and wastes nothing.
partial-buffer export -q -s b --state complete --stream | score timeout >unjudged
partial-buffer put -s b --in unjudged 2>log
grep -q "accepted 0, repeated $complete, superseded 0" log || { cat log; exit 1; }
expect "$(number awaiting_score)" "$complete" "rollouts that await a score"
# All get one from a scorer that comes later; who holds leases of other rollouts keeps them.
partial-buffer export -s b --state complete --stream 2>log | tee given |
  reward-score -q --rescore --scorer regex --pattern '.' --model "$model" >scored
grep -q "exported $complete rollouts" log || { cat log; exit 1; }
! rollout-cat --json given | grep -q '"lease":' || { echo "a lease in the stream"; exit 1; }
partial-buffer put -s b --in scored 2>log
grep -q "accepted $complete, repeated 0, superseded 0, rejected 0, other 0;" log || { cat log; exit 1; }
expect "$(in_state leased)" 4 "rollouts of the worker that goes on"
expect "$(number awaiting_score)" 0 "rollouts that await a score"
partial-buffer put -q -s b --in <(generate <held)
partial-buffer claim -q -s b >claim
partial-buffer audit -q -s b >/dev/null

# Scored ones get another score until they are claimed; what was claimed is not changed.
partial-buffer export -q -s b --state scored --stream | APRIL_VALUE=7 score ok >again
partial-buffer put -s b --in again 2>log
claimed=$(partial-buffer ls -q -s b --json --state scored --where group_state=claimed | wc -l)
grep -q "repeated $claimed, superseded 0," log || { cat log; exit 1; }
expect "$(partial-buffer ls -q -s b --json --where reward=7 --where group_state=claimed | wc -l)" 0 "claimed rollouts with another reward"
partial-buffer audit -q -s b >/dev/null
fails "tokens has no effect with --stream" 2 partial-buffer export -s b --stream --no-tokens

# Nothing is left to generate, but scores are missing: nobody is told to add prompts.
rm -r b
make 2
partial-buffer take -q -s b --rollouts 8 --worker w | APRIL_ROUNDS=40 generate | score none | partial-buffer put -q -s b
fails "complete rollouts wait for a score" 7 partial-buffer claim -s b
! grep -q "no prompts are left" stderr || { cat stderr; exit 1; }
partial-buffer take -s b --worker w 2>log >/dev/null
grep -q "nothing to take: [0-9]* complete rollouts of its last groups wait for a score: partial-buffer export" log || { cat log; exit 1; }
