#!/bin/bash
# Two nodes of eight GPUs with torch's own launcher: on each node, RANK_OF_NODE=0 on the first,
#     FIRST=node0 RANK_OF_NODE=0 bash launch/torchrun.sh
set -euo pipefail

# Processes that are asked to leave end their step and save first; after 30 seconds torchrun would kill them.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=900
exec torchrun --nnodes 2 --nproc-per-node 8 --node-rank "$RANK_OF_NODE" --master-addr "$FIRST" --master-port 29500 \
    -m vision_zero.cli train recipes/qwen2_5_vl_7b_clevr.yaml \
    --devices 8 --nodes 2 --set devices.shard=fsdp --out runs/7b-two-nodes
