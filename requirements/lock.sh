#!/bin/sh
# Resolve pyproject.toml into the hashed locks beside this file (make lock).
# Left out is what differs between a CPU and a CUDA machine: torch and the CUDA libraries that it brings. install.sh puts
# torch in first. deepspeed-kernels serves DeepSpeed's inference engine only, and has wheels for few platforms.
set -eu
cd "$(dirname "$0")/.."
uv="${1:-uv}"
compile() {
    "$uv" pip compile --quiet --generate-hashes --no-header --custom-compile-command "make lock" \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 "$@"
}
# shellcheck disable=SC2046  # one flag and one name a word
compile pyproject.toml --extra train --excludes requirements/exclude.txt \
    $(sed 's/^/--no-emit-package /' requirements/from-torch.txt) --output-file requirements/train.txt
compile pyproject.toml --extra dev --constraint requirements/train.txt --output-file requirements/dev.txt
compile requirements/audit.in --output-file requirements/audit.txt
compile requirements/clouds.in --output-file requirements/clouds.txt
compile requirements/fuzz.in --no-deps --output-file requirements/fuzz.txt
compile requirements/demo.in --no-deps --constraint requirements/train.txt --output-file requirements/demo.txt
# uv itself, for the machine and for the image.
"$uv" pip compile --quiet --generate-hashes --no-header --custom-compile-command "make lock" \
    --universal --python-version 3.10 --no-deps requirements/uv.in --output-file requirements/uv.txt
# What validates, for any Python and platform: action.yml installs it on another repository's runner.
"$uv" pip compile --quiet --generate-hashes --no-header --custom-compile-command "make lock" \
    --universal --python-version 3.10 pyproject.toml --output-file requirements/light.txt
