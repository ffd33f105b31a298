#!/usr/bin/env bash
# Builds the environment of the benchmark, .venv-bench: every peer in one process, so that their times alternate.
# Without dependencies, as in parity/environments.sh; transformers is the newest that verl takes.
cd "$(dirname "$0")/../.."
# shellcheck source=tests/environments.sh
. tests/environments.sh

build .venv-bench "--no-deps trl==1.16.0 liger-kernel==0.8.5 entmax==1.3 verl==0.9.1 transformers==5.10.4 tokenizers==0.22.2
    huggingface_hub==1.33.0 httpx==0.28.1 httpcore==1.0.9 tensordict==0.10.0 pyvers==0.1.0 orjson ray==2.60.0 msgpack
    protobuf torchdata==0.11.0 pylatexenc"
