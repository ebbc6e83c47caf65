#!/usr/bin/env bash
# Options that exclude each other are refused before anything is read; an input whose writer failed is passed on.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"

fails "in does not go with --prompt" 2 rollout-gen --model "$model" --prompt hi --in -
fails "out does not go with --prompt" 2 rollout-gen --model "$model" --prompt hi --out x
fails "target-groups does not go with --prompt" 2 rollout-gen --model "$model" --prompt hi --target-groups 3
fails "from does not go with --prompt" 2 rollout-gen --model "$model" --prompt hi --from zmq+ipc://hub
fails "prompt is empty" 2 rollout-gen --model "$model" --prompt ""
fails "in does not go with --from" 2 rollout-gen --model "$model" --from zmq+ipc://hub --in -
fails "worker is for --from" 2 rollout-gen --model "$model" --worker w --in -
fails "temperature is for --prompt" 2 rollout-gen --model "$model" --temperature 0 --in -
[ ! -e x ]
rollout-gen --print-config >all.toml
fails "cannot open none" 1 rollout-gen --config all.toml --model "$model" --in none
echo "temperature=0.5" >some.toml
fails "temperature is for --prompt" 2 rollout-gen --config some.toml --model "$model" --in -

# A buffer is no place to wait for weights.
partial-buffer init -q -s buffer --model "$model" --max-tokens 8
work 1 1 8 >work.bin
fails "buffer is a buffer, not a version store" 2 rollout-gen --weights buffer --in work.bin --out y
[ ! -e y ]

# The program before failed: its records are not lost, and the next program learns of it.
APRIL_STREAM_STATUS=error APRIL_STREAM=failed.bin APRIL_STREAM_RECORDS=20 unit_record '[.stream]' >/dev/null
fails "the program that wrote the input failed" 1 rollout-gen --model "$model" --in failed.bin --out passed.zst
expect "$(rollout-cat --count --in passed.zst 2>stderr || true)" "$(rollout-cat --count --in failed.bin 2>/dev/null || true)" "what was passed on"
grep -q "ended error" stderr || { cat stderr; exit 1; }
