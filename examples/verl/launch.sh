#!/usr/bin/env bash
# OPO under verl, on one node or on a Ray cluster:  [CONFIG=opo] bash examples/verl/launch.sh [OVERRIDE…]
#
#   DATA            folder with train.parquet and test.parquet in verl's format (prompt, data_source, reward_model)
#   MODEL           a model folder or hub name
#   NNODES          number of nodes, 1 by default; GPUS_PER_NODE, 8 by default
#   RAY_ADDRESS     of a running cluster (host:port); none starts Ray on this machine alone
#
# A cluster: `ray start --head --port=6379` on the first node, `ray start --address=HEAD:6379` on the others, each in an environment where
# both verl and geomalign are installed (the plug-in is loaded by `import verl` in every worker), then this script once, on the first.
set -euo pipefail
folder="$(cd "$(dirname "$0")" && pwd)"
config="${CONFIG:-opo}"
export DATA="${DATA:-data}" MODEL="${MODEL:-Qwen/Qwen3-1.7B}" NNODES="${NNODES:-1}" GPUS_PER_NODE="${GPUS_PER_NODE:-8}"

# verl hides plug-ins that fail to load; this does not, and it makes one step with the run's own configuration.
python3 -m geomalign.adapters.verl --config "$folder/$config.yaml" "$@"

exec python3 -m verl.trainer.main_ppo --config-path "$folder" --config-name "$config" "$@"
