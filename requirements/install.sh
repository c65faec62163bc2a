#!/bin/sh
# Install the pinned stack into $VIRTUAL_ENV: torch for this machine, then the hashed lock, then this project.
#   usage: TORCH_BACKEND=auto|cpu|cu126|cu130 install.sh [path to uv] [further lock files...]
#   PROJECT=no leaves this project out, so that the image has the stack in a layer of its own
set -eu
cd "$(dirname "$0")/.."
uv="${1:-uv}"
[ "$#" -eq 0 ] || shift
torch="torch==2.13.0"

# CUDA 13 needs driver 580 or newer, CUDA 12 needs 525 (docs.nvidia.com/deploy/cuda-compatibility).
detect_backend() {
    driver="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 | cut -d. -f1)" || driver=""
    case "$driver" in
        "" | *[!0-9]*) echo cpu ;;
        *) if [ "$driver" -ge 580 ]; then echo cu130; elif [ "$driver" -ge 525 ]; then echo cu126; else echo "old-$driver"; fi ;;
    esac
}

backend="${TORCH_BACKEND:-auto}"
[ "$backend" != auto ] || backend="$(detect_backend)"
case "$backend" in
    cpu | cu126 | cu130) ;;
    old-*)
        echo "install: NVIDIA driver ${backend#old-} is too old: torch 2.13 needs 525 or newer (CUDA 12.6)" >&2
        echo "  help: rent a host with a newer driver, or TORCH_BACKEND=cpu to validate and rehearse only" >&2
        exit 3
        ;;
    *)
        echo "install: TORCH_BACKEND=$backend is none of auto, cpu, cu126, cu130" >&2
        exit 2
        ;;
esac

# A folder of wheels (UV_FIND_LINKS, PIP_FIND_LINKS) may hold the CPU build; PyPI itself has CUDA 13 builds only.
wheels=""
for folder in ${UV_FIND_LINKS:-} ${PIP_FIND_LINKS:-}; do
    for wheel in "$folder"/torch-2.13.0+cpu-cp311-*.whl; do
        [ ! -e "$wheel" ] || wheels="$folder"
    done
done
echo "install: $torch for $backend${wheels:+ from $wheels}"
if [ "$backend" = cpu ] && [ -n "$wheels" ]; then
    "$uv" pip install --no-index --find-links "$wheels" --no-deps "$torch+cpu"
else
    "$uv" pip install --torch-backend "$backend" "$torch"
fi
for lock in requirements/train.txt "$@"; do
    "$uv" pip install --compile-bytecode --no-deps --require-hashes -r "$lock"
done
[ "${PROJECT:-yes}" = no ] || "$uv" pip install --no-deps --editable .
"$uv" pip check
