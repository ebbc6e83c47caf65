#!/usr/bin/env bash
# The kernel set that is a module of its own: asked for by name it works, or one line says what is wrong; other sets do without it.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"
work 2 2 20 >work.bin
mkdir -p elsewhere/bin elsewhere/lib/april
cp "$(command -v rollout-gen)" elsewhere/bin
generate() { elsewhere/bin/rollout-gen -q --model "$model" --in work.bin --out "$@"; }
module=lib/april/libapril_brgemm.so

order=portable-bf16
! grep -q -w amx_bf16 /proc/cpuinfo || order=portable-amx-bf16
generate portable.bin --kernels $order
if ! grep -q -w avx512_bf16 /proc/cpuinfo; then
  fails "needs a processor" 2 generate brgemm.bin --kernels brgemm
  exit
fi
fails "elsewhere/$module, which is not there" 2 generate brgemm.bin --kernels brgemm
echo broken >elsewhere/$module
fails "cannot be loaded: .*$module" 2 generate brgemm.bin --kernels brgemm
[ ! -e brgemm.bin ]
[ -e "$APRIL_BIN/../$module" ] || exit 0  # a build without LibTorch
cp "$APRIL_BIN/../$module" elsewhere/$module
generate brgemm.bin --kernels brgemm
has brgemm.bin '"kernels":"brgemm-'
expect "$(content brgemm.bin)" "$(content portable.bin)" "what another set of the same order made"
