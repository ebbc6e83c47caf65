# Several ranks on this machine. Sourced after common.bash.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

# rank R/N DIRECTORY OPTIONS...: replaces the shell, so that in the background its number is the program's. In the foreground: apart rank ….
rank() {
  local number=$1 dir=$2
  shift 2
  exec grpo-step --model "$model" --from "$dir/checkpoints" --publish "$dir/weights" --lr 1e-3 --keep-versions 9 --rank "$number" \
    --rank-address "127.0.0.1:$port" --rank-timeout-s 2 "$@"
}
apart() { ("$@"); }

# together DIRECTORY CLAIMS OPTIONS...: two ranks train all claims.
together() {
  local dir=$1 claims=$2 first
  shift 2
  rank 0/2 "$dir" --checkpoint-every 3 --in "$claims" --out "$dir.stream" "$@" & first=$!
  apart rank 1/2 "$dir" --checkpoint-every 3 "$@" 2>"$dir.err" || { echo "exit $? of rank 1"; cat "$dir.err"; return 1; }
  wait $first
}
