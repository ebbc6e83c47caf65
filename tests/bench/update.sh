#!/usr/bin/env bash
# update.sh PEERS [ROUNDS] [UPDATES]: seconds of the trainer's update alone (forward, losses, backward, AdamW, packing of the new weights) against TRL
# GRPOTrainer's on the same recorded rollouts: 8 groups of 8 of single-digit addition, at most 64 new tokens, all groups trained. Default: 3 rounds of 2.
#
# TRL runs in the better of two configurations: all 64 rollouts in one batch, and batches of 16. The first update of either side warms up and is left out.
# The share of the peak is 3 times the forward's matrix operations (products and attention of the rows that the trainer computes, each prompt once; nothing
# that is computed again counts) over the update's seconds, over the best bf16 product seen in the same run: this trainer's own, or oneDNN's.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
rounds=${2:-3} updates=${3:-2}
need_programs partial-buffer rollout-gen bench_update
record_addition "$work/rollouts.stream" 8

: >"$work/ours" >"$work/theirs" >"$work/lines"
for round in $(seq "$rounds"); do
  bench_update time "$peers/model/hf" "$work/rollouts.stream" 8 "$updates" >"$work/last"
  grep '"on_policy"' "$work/last" >"$work/on-policy"
  grep '"update"' "$work/last" | tee -a "$work/lines" | python3 -c 'import json, sys; s = [json.loads(l)["update_s"] for l in sys.stdin]; print(sum(s) / len(s))' >>"$work/ours"
  for batch in 64 16; do
    "$python" "$here/peers/trl_update.py" "$peers" "$work/rollouts.stream" 8 "$batch" "$updates" 2>"$work/log" | grep '^{"peer"' >"$work/trl-$batch" ||
      { tail -n 20 "$work/log" >&2; die 1 "TRL failed"; }
  done
  python3 - "$work"/trl-64 "$work"/trl-16 >>"$work/theirs" <<'PY'
import json, sys
runs = [[json.loads(line) for line in open(path)] for path in sys.argv[1:]]
print(min(sum(line["update_s"] for line in run) / len(run) for run in runs))
PY
  "$python" "$here/peers/best_product.py" >>"$work/products"
done
figure update s lower "$work/ours" "$work/theirs" peer "TRL GRPOTrainer"
python3 - "$work/lines" "$work/products" <<'PY'
import json, statistics, sys
ours, library = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
median = lambda key: statistics.median(line[key] for line in ours)
peaks = {"linear of the kernel set": max(line["product_gflops"] for line in ours), "oneDNN in LibTorch": max(line["product_gflops"] for line in library)}
peak = max(peaks, key=peaks.get)
shares = sorted(line["gflops"] / peaks[peak] for line in ours)
print(json.dumps({"figure": "update_peak_share", "unit": "1", "share_min": round(shares[0], 3), "share_median": round(statistics.median(shares), 3),
                  "share_max": round(shares[-1], 3), "peak": peak, "peak_gflops": round(peaks[peak]),
                  "other_peaks_gflops": {name: round(rate) for name, rate in peaks.items() if name != peak} |
                  {"instructions on registers alone": round(max(line["registers_gflops"] for line in ours))},
                  "update_gflop": round(median("matrix_gflop")), "rows": ours[0]["forward_tokens"], "response_tokens": ours[0]["response_tokens"],
                  **{key: round(median(key), 3) for key in ("forward_s", "backward_s", "optimizer_s", "pack_s")}}))
PY
cat "$work/on-policy"
