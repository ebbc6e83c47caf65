#!/usr/bin/env bash
# A generator that is stopped for longer than its lease, a hub that is stopped or dies: zombies.py says what is proved.
set -euo pipefail
PYTHONDONTWRITEBYTECODE=1 exec python3 "$APRIL_SOURCE/tests/fault/zombies.py"
