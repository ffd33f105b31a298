#!/usr/bin/env bash
# Builds the environments that tests/adapters runs TRL in, one per release:  bash tests/adapters/environments.sh [VERSION…]
#
# .venv-trl-NEWEST holds torch, transformers, peft and pytest; the others are thin: they see it through a .pth file and add their
# own TRL with --no-deps; so does .venv-host-torchtune (asked for as torchtune). PYTHON chooses the interpreter (3.10 to 3.13). Then:
#   .venv-trl-0.29.1/bin/python -m pytest -x -q tests/adapters/test_trl.py
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON="${PYTHON:-python3}"
NEWEST=1.16.0
ALL="$NEWEST 1.14.2 1.6.0 0.29.1"

build() {
    local version="$1" folder=".venv-trl-$1" site wanted
    if [ "$version" = torchtune ]; then
        folder=".venv-host-torchtune"
        wanted="--no-deps torchtune==0.6.1 torchao==0.9.0 torchdata omegaconf antlr4-python3-runtime==4.9.3 tiktoken blobfile lxml
            pycryptodomex sentencepiece kagglehub kagglesdk"
    elif [ "$version" = "$NEWEST" ]; then
        wanted="trl==$version torch==2.13.0 transformers==5.23.0 peft accelerate datasets requests pytest hypothesis scipy rich typer matplotlib pandas"
    else
        wanted="--no-deps trl==$version"
    fi
    if [ "$(cat "$folder/built" 2>/dev/null)" = "$wanted" ]; then return; fi
    echo "building $folder"
    rm -rf "$folder"
    "$PYTHON" -m venv "$folder"
    site="$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    if [ "$version" = "$NEWEST" ]; then
        # torch by itself and first: with its version fixed, nothing installed later can ask for another build.
        "$folder/bin/pip" install -q torch==2.13.0
    else
        "$PYTHON" -c 'import os, sys; print(os.path.abspath(sys.argv[1]))' "${site/$folder/.venv-trl-$NEWEST}" > "$site/newest.pth"
    fi
    # shellcheck disable=SC2086
    "$folder/bin/pip" install -q $wanted
    pwd > "$site/geomalign.pth"
    printf '%s' "$wanted" > "$folder/built"
}

build "$NEWEST"
for version in ${*:-$ALL}; do build "$version"; done
