#!/usr/bin/env bash
# Builds the environments that the parity suite runs in, one per set of pins:  bash tests/parity/environments.sh [NAME…]
# Without dependencies: verl's metadata ask for wandb, tensorboard and the dashboard of ray, and no loss needs them.
cd "$(dirname "$0")/../.."
# shellcheck source=tests/environments.sh
. tests/environments.sh

packages() {
    case "$1" in
        trl-0.29) echo "--no-deps trl==0.29.1" ;;
        trl-1.6) echo "--no-deps trl==1.6.0" ;;
        trl-1.16) echo "--no-deps trl==1.16.0" ;;
        areal) echo "--no-deps areal==1.0.4" ;;
        liger) echo "--no-deps liger-kernel==0.8.5" ;;
        openrlhf) echo "--no-deps openrlhf==0.11.2" ;;
        skyrl) echo "--no-deps --ignore-requires-python skyrl==0.4.0 skyrl-gym==0.4.0 loguru ray==2.60.0 msgpack protobuf
            cloudpathlib aiohttp aiosignal aiohappyeyeballs frozenlist multidict yarl propcache attrs orjson pybase64" ;;
        swift) echo "--no-deps ms-swift==4.6.0" ;;
        torchrl) echo "--no-deps torchrl==0.14.1 tensordict==0.14.3 pyvers hoptorch orjson" ;;
        trinity) echo "--no-deps trinity-rft==0.6.0" ;;
        verl) echo "--no-deps verl==0.9.1 transformers==5.10.4 tokenizers==0.22.2 huggingface_hub==1.33.0 httpx==0.28.1 httpcore==1.0.9
            tensordict==0.10.0 pyvers==0.1.0 orjson ray==2.60.0 msgpack protobuf torchdata==0.11.0 pylatexenc" ;;
        *) echo "unknown environment '$1'" >&2; return 1 ;;
    esac
}

environment() {
    local wanted
    wanted="$(packages "$1")"
    build ".venv-parity-$1" "$wanted"
}

# the longest first
if [ $# -eq 0 ]; then set -- verl skyrl torchrl liger openrlhf trinity swift areal trl-1.16 trl-1.6 trl-0.29; fi
each environment "$@"
