# Every build reads the golden streams, shows them as their JSON twins do, and copies them byte for byte.
set -euo pipefail
golden=$APRIL_SOURCE/formats/golden/v1
found=0
for stream in "$golden"/*.stream "$golden"/*.stream.zst; do
  rollout-cat -q --check "$stream"
  rollout-cat -q --json "$stream" >shown.json
  python3 - shown.json "${stream%.zst}.json" <<'PYTHON'
import json, sys
shown, twin = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
assert len(shown) == len(twin), f"{len(shown)} lines, the twin has {len(twin)}"
for line, (a, b) in enumerate(zip(shown, twin), 1):
    assert a == b, f"line {line}:\n{a}\ntwin:\n{b}"
PYTHON
  found=$((found + 1))
done
[ $found -ge 4 ]

# A raw stream without marks comes out as it went in, unknown keys and types included.
for name in empty unknown-keys; do
  status=0
  rollout-cat -q "$golden/$name.stream" >copy || status=$?
  cmp copy "$golden/$name.stream"
  case $name in unknown-keys) [ $status -eq 75 ] ;; *) [ $status -eq 0 ] ;; esac  # its end says stopped
done
cmp <(rollout-cat -q --canonical "$golden/every-type.stream") <(rollout-cat -q --canonical "$golden/every-type.stream.zst")
if command -v zstdcat >/dev/null; then zstdcat "$golden/every-type.stream.zst" | cmp - "$golden/every-type.stream"; fi
