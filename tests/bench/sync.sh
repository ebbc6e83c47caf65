#!/usr/bin/env bash
# sync.sh [MODEL] [ROUNDS]: publishing, fetching (directory, socket) and verifying a model's bf16 weights, against `cp` of the same bytes.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
model=${1:-$("$root/pipelines/get-model.sh" "$root/build/model")} rounds=${2:-5}
need_programs weight-sync
cd "$work"
weight-sync publish -q --model "$model" --to store --version 0
weight-sync serve -q --dir store --bind zmq+ipc://socket &
server=$!
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
timed() { local begin; begin=$(now); "$@"; echo "$(now) $begin" | awk '{ printf "%.4f\n", $1 - $2 }'; }
for what in publish fetch_directory fetch_socket verify; do
  : >ours >theirs
  for round in $(seq "$rounds"); do
    rm -rf to copy
    case $what in
      publish) timed weight-sync publish -q --model store/v00000000 --to to >>ours ;;
      fetch_directory) timed weight-sync fetch -q --from store --to to >>ours ;;
      fetch_socket) timed weight-sync fetch -q --from zmq+ipc://socket --to to >>ours ;;
      verify) timed weight-sync verify -q store >>ours ;;
    esac
    timed cp -r store/v00000000 copy >>theirs
  done
  figure "weights_$what" s lower ours theirs bytes "$(du -sb store/v00000000 | cut -f1)" peer cp
done
