#!/usr/bin/env bash
# Builds the environments that tests/adapters runs TRL in, one per release:  bash tests/adapters/environments.sh [VERSION…]
# Asked for as torchtune, one with torchtune. Then:
#   .venv-trl-0.29.1/bin/python -m pytest -x -q tests/adapters/test_trl.py
cd "$(dirname "$0")/../.."
# shellcheck source=tests/environments.sh
. tests/environments.sh

environment() {
    if [ "$1" = torchtune ]; then
        build .venv-host-torchtune "--no-deps torchtune==0.6.1 torchao==0.9.0 torchdata omegaconf antlr4-python3-runtime==4.9.3
            tiktoken blobfile lxml pycryptodomex sentencepiece kagglehub kagglesdk"
    else
        build ".venv-trl-$1" "--no-deps trl==$1"
    fi
}

if [ $# -eq 0 ]; then set -- 1.16.0 1.14.2 1.6.0 0.29.1; fi
each environment "$@"
