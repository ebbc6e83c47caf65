#!/usr/bin/env bash
# Full disks, short writes, failing writes and syncs under every command that writes a buffer, and under its hub: faulty_disk.py says what is proved.
set -euo pipefail
PYTHONDONTWRITEBYTECODE=1 exec python3 "$APRIL_SOURCE/tests/fault/faulty_disk.py"
