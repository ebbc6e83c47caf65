#!/bin/sh
# fetch-libtorch.sh FOLDER VERSION: the torch wheel and the two CUDA libraries that even its CPU part loads, unpacked into FOLDER.
set -eu
folder=$1 version=$2
mkdir -p "$folder.part"
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d "$wheels" "torch==$version" "nvidia-cuda-runtime>=13,<14" "nvidia-cuda-cupti>=13,<14"
python3 - "$wheels" "$folder.part" <<'PY'
import glob, sys, zipfile
# Python's own code, test programs and the CUDA kernels (libtorch_cuda*) are left out: they are two thirds of the wheel.
skip = ("libtorch_cuda", "libtorch_python", "libcaffe2_nvrtc", "libnvshmem", "libtorch_nvshmem")
for wheel in glob.glob(sys.argv[1] + "/*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            base = name.rsplit("/", 1)[-1]
            if name.startswith("torch/") and not name.startswith(("torch/include/", "torch/lib/")):
                continue
            if not base.startswith(skip):
                archive.extract(name, sys.argv[2])
PY
rm -rf "$folder"
mv "$folder.part" "$folder"
