#!/usr/bin/env bash
# all.sh PEERS [ROUNDS [PROMPTS]]: every benchmark but fresh.sh, as JSON lines on stdout with the machine named first; april.sh, once, where PROMPTS are given.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
rounds=${2:-3}
python3 - "$(git -C "$root" rev-parse --short HEAD)" <<'PY'
import json, os, sys
model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
print(json.dumps({"machine": model, "cpus": os.cpu_count(), "load": os.getloadavg()[0], "commit": sys.argv[1]}), flush=True)
PY
"$here/tokens.sh" "$peers"
"$here/logprobs.sh" "$peers"
"$here/exactness.sh" "$peers/model/smollm2.gguf"
"$here/sync.sh" "$peers/model/smollm2.gguf" "$rounds"
"$here/decode.sh" "$peers" "$rounds"
"$here/prefill.sh" "$peers" "$rounds"
"$here/memory.sh" "$peers"
"$here/resume.sh" "$peers" 1000 "$rounds"
"$here/price.sh" "$peers" "$rounds"
"$here/step.sh" "$peers" "$rounds"
"$here/update.sh" "$peers" "$rounds"
"$here/prefix.sh" "$peers" "$rounds"
"$here/training_memory.sh" "$peers"
"$here/loads.sh" "$peers"
if [ -n "${3:-}" ]; then
  "$here/april.sh" "$peers/model/smollm2.gguf" "$3"
else
  say "april.sh is left out: it needs PROMPTS, for example GSM8K's train.jsonl"
fi
