#!/usr/bin/env bash
# --engine sim: records that a buffer takes, the same every time, on a clock that says that it is virtual; --round-tokens; --profile.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"

cat >quick.json <<'JSON'
{"format": "april-simulation-profile", "version": 1, "name": "quick", "source": "this test",
 "decode": {"step_ms": 1000, "row_ms": 0, "context_us": 0}, "prefill": {"token_ms": 0},
 "lengths": {"distribution": "list", "tokens": [5, 10, 20]}}
JSON
work 10 4 16 >work.bin
rollout-gen --engine sim:quick.json --in work.bin --out one.bin --no-compress --metrics metrics.jsonl 2>log
grep -q "read 40, finished 40, .* tokens/s in simulated time" log || { cat log; exit 1; }
grep -q '"simulated":true' metrics.jsonl
rollout-gen -q --engine sim:./quick.json <work.bin >two.bin
rollout-cat -q --canonical --in one.bin >one.canonical
rollout-cat -q --canonical --in two.bin | cmp -s one.canonical - || { echo "two simulations of the same work differ"; exit 1; }
rollout-cat -q --json --in one.bin | python3 -c '
import json, sys
rollouts = [r for r in map(json.loads, sys.stdin) if r["type"] == "rollout"]
assert len(rollouts) == 40
assert {(len(r["tokens"]), r["finish"]) for r in rollouts} == {(5, "stop"), (10, "stop"), (16, "length")}, "lengths"
for r in rollouts:
    assert len(r["logprobs"]) == len(r["tokens"]) and {s["engine"] for s in r["segments"]} == {"sim:quick"} and {s["kernels"] for s in r["segments"]} == {"sim"}
    assert abs(sum(s["wall_ms"] for s in r["segments"]) - 1000 * len(r["tokens"])) < 1e-6, "a second a step"
' || exit 1

# A round of so many tokens: what is unfinished is kept, and goes on to the same end.
rollout-gen --engine sim:quick.json --in work.bin --out round.bin --no-compress --round-tokens 150 2>log
grep -q "; 1[5-8][0-9] tokens" log && [ "$(count round.bin partial)" -gt 0 ] || { cat log; exit 1; }
rollout-gen -q --engine sim:quick.json --in round.bin --out rest.bin
content rest.bin >rest
content one.bin | cmp -s rest - || { echo "interrupted and resumed differs from uninterrupted"; exit 1; }
rollout-gen --model "$model" --in work.bin --out round.bin --round-tokens 100 2>log
grep -q "; 1[0-3][0-9] tokens" log && [ "$(count round.bin partial)" -gt 0 ] || { cat log; exit 1; }

# With a model's tokenizer: its ids. Through a buffer's hub, under whatever version it asks for.
partial-buffer init -q -s buffer --model "$model" --group-size 2 --groups-per-step 3 --in-flight 12 --max-tokens 16 --seed 4
prompts 12 | partial-buffer add -q -s buffer --prompts -
partial-buffer take -q -s buffer | rollout-gen -q --engine sim:h100-qwen3-8b --model "$model" --target-groups 3 | partial-buffer put -q -s buffer
[ "$(partial-buffer ls -q -s buffer --state complete --json | wc -l)" -ge 6 ] || { partial-buffer stat -s buffer; exit 1; }
partial-buffer serve -q -s buffer --bind zmq+ipc://hub --grace-ms 2000 &
server=$!
(rollout-gen -q --engine sim:quick.json --from zmq+ipc://hub | reward-score -q --scorer exact --model "$model" | partial-buffer put -q -s zmq+ipc://hub) &
generation=$!
for ((i = 0; i < 200; ++i)); do partial-buffer claim -q -s zmq+ipc://hub --out claim.bin 2>/dev/null && break; sleep 0.05; done
kill -USR1 $server
wait $generation || expect $? 75 "exit of the generator"
wait $server || expect $? 75 "exit of the server"
partial-buffer verify -q -s buffer
[ "$(rollout-cat -q --json --in claim.bin | grep -c '"type":"rollout"')" = 6 ] || { echo "no whole claim of simulated rollouts"; exit 1; }

# Measured: a profile of this machine, whose lengths are those of a stream.
rollout-gen -q --model "$model" --in work.bin --out real.bin
rollout-gen --model "$model" --profile tiny.json --in real.bin --in-flight 4 2>log
grep -q "wrote tiny.json: a step of 4 rows takes [0-9.]* ms" log || { cat log; exit 1; }
rollout-gen -q --engine sim:tiny.json --in work.bin --out measured.bin
expect "$(count measured.bin complete)" 40 "finished by a measured profile"

fails "no such engine" 2 rollout-gen --engine abacus --in work.bin
fails "shipped are h100-qwen3-8b, smollm2-135m-zen4" 2 rollout-gen --engine sim:abacus --in work.bin
fails "cannot open none.json" 1 rollout-gen --engine sim:none.json --in work.bin
fails "a simulation answers no --prompt" 2 rollout-gen --engine sim:quick.json --prompt hi
fails "measures a model, not a simulation" 2 rollout-gen --engine sim:quick.json --profile x.json
fails "round-tokens" 2 rollout-gen --model "$model" --from zmq+ipc://hub --round-tokens 5
sed 's/"step_ms": 1000/"step_ms": -1/' quick.json >bad.json
fails "profile bad.json: decode: step_ms" 2 rollout-gen --engine sim:bad.json --in work.bin
sed 's/"decode"/"decode/' quick.json >bad.json
fails "profile bad.json is no JSON" 2 rollout-gen --engine sim:bad.json --in work.bin
sed 's/"lengths"/"lenghts"/' quick.json >bad.json
fails "profile bad.json: lengths is missing" 2 rollout-gen --engine sim:bad.json --in work.bin
