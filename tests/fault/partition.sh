#!/usr/bin/env bash
# A connection to the hub that hangs for longer than a lease, or breaks at any byte: partition.py says what is proved.
set -euo pipefail
PYTHONDONTWRITEBYTECODE=1 exec python3 "$APRIL_SOURCE/tests/fault/partition.py"
