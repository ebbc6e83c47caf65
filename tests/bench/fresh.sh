#!/usr/bin/env bash
# fresh.sh [QUICKSTART OPTIONS…]: seconds from a clean checkout to the first trained step, downloads included, by phase; run it on a bare machine or container.
# Clones this repository into a new folder, runs pipelines/quickstart.sh --quick there, and prints where the time went.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
begin=$(now)
git clone -q "$root" "$work/april"
cloned=$(now)
"$work/april/pipelines/quickstart.sh" --quick "$@" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; die 1 "quickstart failed"; }
python3 - "$begin" "$cloned" "$(now)" "$work/april/build" <<'PY'
import json, os, sys
begin, cloned, end = map(float, sys.argv[1:4])
build = sys.argv[4]
phases = {"clone": cloned - begin}
for line in open(build + "/quickstart-times.tsv"):
    name, seconds = line.split("\t")
    phases[name] = phases.get(name, 0) + float(seconds)
first_step = os.stat(build + "/quickstart/weights/v00000001/manifest.json").st_mtime
print(json.dumps({"figure": "fresh_machine_to_first_trained_step", "unit": "s", "cpus": os.cpu_count(), "seconds": round(first_step - begin, 1),
                  "whole_run": round(end - begin, 1), "phases": {name: round(seconds, 1) for name, seconds in phases.items()}}))
PY
