#!/usr/bin/env bash
# setup.sh DIR: everything that the comparisons need, under DIR (about 10 minutes, 7 GB). Safe to run again: what is there is kept.
set -euo pipefail
case ${1:-} in "" | -h | --help) sed -n '2s/^# \{0,1\}//p' "$0"; [ "${1:-}" ] && exit 0 || exit 2 ;; esac
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(realpath "$1")
say() { printf 'setup: %s\n' "$*" >&2; }

"$here/../../../pipelines/get-model.sh" "$dir/model" >/dev/null

if ! "$dir/venv/bin/python" -c 'import torch, transformers, trl, peft, gguf, datasets, msgpack' 2>/dev/null; then
  say "Python packages (torch and what it brings are most of it)"
  python3 -m venv "$dir/venv"
  "$dir/venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
fi

if [ ! -s "$dir/model/hf/model.safetensors" ]; then
  say "the model in bf16, as transformers reads the GGUF file"
  "$dir/venv/bin/python" "$here/to_hugging_face.py" "$dir/model"
fi

llama=$dir/llama
if [ ! -x "$llama/build/bin/llama-batched-bench" ]; then
  say "llama.cpp, from the sources in its Python binding's package"
  rm -rf "$llama" "$dir/download"
  mkdir -p "$llama"
  python3 -m pip download -q --disable-pip-version-check --no-deps --no-binary llama-cpp-python -d "$dir/download" llama-cpp-python==0.3.36
  tar -C "$llama" -xf "$dir"/download/llama_cpp_python-*.tar.gz --strip-components=1
  cmake -S "$llama/vendor/llama.cpp" -B "$llama/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=ON >"$llama/configure.log"
  cmake --build "$llama/build" -j"$(nproc)" --target llama-batched-bench >"$llama/build.log" 2>&1 || { tail -n 20 "$llama/build.log" >&2; exit 1; }
  rm -rf "$dir/download"
fi

if [ ! -s "$dir/model/bf16.gguf" ]; then
  "$dir/venv/bin/python" "$llama/vendor/llama.cpp/convert_hf_to_gguf.py" "$dir/model/hf" --outtype bf16 --outfile "$dir/model/bf16.gguf" >"$llama/convert.log" 2>&1 ||
    { tail -n 20 "$llama/convert.log" >&2; exit 1; }
fi
say "ready in $dir"
