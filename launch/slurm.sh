#!/bin/bash
# Two nodes of eight GPUs under Slurm: sbatch launch/slurm.sh. One task a node; it starts the eight processes.
#SBATCH --job-name=vision-zero
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
# So long before the time limit Slurm asks the run to leave; submitted again, the same job goes on.
#SBATCH --signal=TERM@900
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export first
# The run directory must be on a disk that all nodes share.
srun bash -c 'exec vision-zero train recipes/qwen2_5_vl_7b_clevr.yaml \
    --devices 8 --nodes "$SLURM_NNODES" --node-rank "$SLURM_NODEID" --rendezvous "$first:29500" \
    --set devices.shard=fsdp --out runs/7b-two-nodes'
