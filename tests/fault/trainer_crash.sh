#!/usr/bin/env bash
# The trainer is killed with -9 at random instants, also while it writes weights and checkpoints: the run goes on to the weights, bit for bit, that an
# undisturbed trainer makes of the same recorded claims. APRIL_KILLS=N (default 20; then it also prints a summary), APRIL_SEED=N.
set -euo pipefail
summary=$(PYTHONDONTWRITEBYTECODE=1 python3 "$APRIL_SOURCE/tests/fault/crash.py" "${APRIL_KILLS:-20}" "${APRIL_SEED:-1}" grpo-step) || { echo "$summary"; exit 1; }
[ -z "${APRIL_KILLS:-}" ] || echo "$summary"
