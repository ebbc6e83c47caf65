#!/usr/bin/env bash
# Every program of a run is killed with -9 at random instants, in plain pipes and in the resident loop, and the run goes on: crash.py says what is proved.
# APRIL_KILLS=N (default 50; then it also prints a summary), APRIL_SEED=N.
set -euo pipefail
summary=$(PYTHONDONTWRITEBYTECODE=1 python3 "$APRIL_SOURCE/tests/fault/crash.py" "${APRIL_KILLS:-50}" "${APRIL_SEED:-1}") || { echo "$summary"; exit 1; }
[ -z "${APRIL_KILLS:-}" ] || echo "$summary"
