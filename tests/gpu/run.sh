#!/usr/bin/env bash
# Tests and benchmarks on a CUDA device in at most eight minutes:  tests/gpu/run.sh [--tiny] [--only STAGE …]
# It needs Python with torch >= 2.11, transformers and triton, and no network. What else is missing there travels as
# wheels: `make gpu-wheels` on a machine with a network fills build/gpu-wheels (or $WHEELS), which is installed here.
# Figures go to $OUT/results.json and everything that was printed to $OUT/log.txt; the table comes last.
# --tiny: the same code with small sizes, on the CPU where there is no GPU, in 90 seconds of two cores.
set -euo pipefail
started=$(date +%s)
cd "$(dirname "$0")/../.."
PYTHON="${PYTHON:-python3}"
export OUT="${OUT:-gpu-results}" PYTHONUNBUFFERED=1 MPLBACKEND=Agg HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
mkdir -p "$OUT"
site="$(mktemp -d)"
trap 'rm -rf "$site"' EXIT
export PYTHONPATH="$PWD:$site${PYTHONPATH:+:$PYTHONPATH}"
"$PYTHON" -m tests.gpu.wheels "${WHEELS:-build/gpu-wheels}" "$site"
"$PYTHON" -m tests.gpu --started "$started" "$@"
