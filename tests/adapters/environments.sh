#!/usr/bin/env bash
# Builds the environments that tests/adapters runs TRL in, one per release:  bash tests/adapters/environments.sh [VERSION…]
# Asked for as torchtune, skyrl, torchtitan or tinker, one with that trainer. Then:
#   .venv-trl-0.29.1/bin/python -m pytest -x -q tests/adapters/test_trl.py
cd "$(dirname "$0")/../.."
# shellcheck source=tests/environments.sh
. tests/environments.sh

environment() {
    case "$1" in
        torchtune) build .venv-host-torchtune "--no-deps torchtune==0.6.1 torchao==0.9.0 torchdata omegaconf antlr4-python3-runtime==4.9.3
            tiktoken blobfile lxml pycryptodomex sentencepiece kagglehub kagglesdk" ;;
        # SkyRL's metadata ask for Python 3.12; its losses and its trainer's advantages run on 3.11.
        skyrl) build .venv-host-skyrl "--no-deps --ignore-requires-python skyrl==0.4.0 skyrl-gym==0.4.0 loguru ray==2.60.0 msgpack
            protobuf cloudpathlib aiohttp aiosignal aiohappyeyeballs frozenlist multidict yarl propcache attrs orjson pybase64" ;;
        torchtitan) build .venv-host-torchtitan "--no-deps torchtitan==0.3.0 spmd_types==0.2.3 tyro docstring_parser typeguard" ;;
        tinker) build .venv-host-tinker "tinker==0.38.0" ;; # Python 3.11
        *) build ".venv-trl-$1" "--no-deps trl==$1" ;;
    esac
}

if [ $# -eq 0 ]; then set -- 1.16.0 1.14.2 1.6.0 0.29.1; fi
each environment "$@"
