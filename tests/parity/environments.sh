#!/usr/bin/env bash
# Builds the environments that the parity suite runs in, one per set of pins:  bash tests/parity/environments.sh [NAME…]
#
# .venv-parity-base holds torch, transformers and pytest; every other environment is thin, sees the base through a .pth file and
# adds its peer with --no-deps and only what the peer's import needs. PYTHON chooses the interpreter (3.10 to 3.12).
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON="${PYTHON:-python3}"
TORCH="torch==2.13.0"
ALL="base trl-0.29 trl-1.6 trl-1.16 liger openrlhf torchrl verl"

packages() {
    case "$1" in
        base) echo "$TORCH transformers==5.23.0 accelerate datasets packaging requests hypothesis pytest" ;;
        trl-0.29) echo "--no-deps trl==0.29.1" ;;
        trl-1.6) echo "--no-deps trl==1.6.0" ;;
        trl-1.16) echo "--no-deps trl==1.16.0" ;;
        liger) echo "--no-deps liger-kernel==0.8.5" ;;
        openrlhf) echo "--no-deps openrlhf==0.11.2" ;;
        torchrl) echo "--no-deps torchrl==0.14.1 tensordict==0.14.3 pyvers hoptorch cloudpickle orjson" ;;
        verl) echo "$TORCH transformers<5.11 tensordict<=0.10.0 ray[default] hydra-core codetiming peft torchdata pylatexenc pillow" ;;
        *) echo "unknown environment '$1'; known: $ALL" >&2; return 1 ;;
    esac
}

build() {
    local name="$1" folder=".venv-parity-$1" wanted
    wanted="$(packages "$name")"
    if [ "$(cat "$folder/built" 2>/dev/null)" = "$wanted" ]; then return; fi
    echo "building $folder"
    rm -rf "$folder"
    "$PYTHON" -m venv "$folder"
    local pip="$folder/bin/pip --disable-pip-version-check" site
    site="$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    if [ "$name" = base ]; then
        $pip install -q "$TORCH"
    else
        "$PYTHON" -c 'import os, sys; print(os.path.abspath(sys.argv[1]))' "${site/.venv-parity-$name/.venv-parity-base}" > "$site/parity-base.pth"
    fi
    # shellcheck disable=SC2086
    $pip install -q $wanted
    if [ "$name" = verl ]; then $pip install -q --no-deps verl==0.9.1; fi
    printf '%s' "$wanted" > "$folder/built"
}

# geomalign itself: where verl is, installed with its entry points, by which verl finds the adapter; on the path elsewhere.
library() {
    local python=".venv-parity-$1/bin/python"
    if [ "$1" = verl ]; then
        "$python" -m pip --disable-pip-version-check install -q --no-deps -e .
    else
        pwd > "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/geomalign.pth"
    fi
}

build base
for name in ${*:-$ALL}; do build "$name"; library "$name"; done
