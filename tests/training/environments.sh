#!/usr/bin/env bash
# Builds the environment with what the extras lora, tensorboard, wandb and trackio bring (`make extras`). Then:
#   .venv-extras/bin/python -m pytest -q tests/training/test_lora.py tests/training/test_callbacks.py
cd "$(dirname "$0")/../.."
# shellcheck source=tests/environments.sh
. tests/environments.sh

# trackio asks for an older Pillow than the other environments have.
build .venv-extras "tensorboard==2.21.0 wandb==0.31.0 trackio==0.43.0 pillow<13"
