#!/bin/bash
#SBATCH --job-name=pretrain-coordinator
#SBATCH --partition=cpu
#SBATCH --account=vision
#SBATCH --time=24:00:00
#SBATCH --no-requeue
#SBATCH --mail-user=me@example.org
#SBATCH --dependency=afterok:12
#SBATCH --output=/shared/jobs/slurm-%j-coordinator-0.log
#SBATCH --open-mode=append
#SBATCH --chdir=/shared/jobs
#SBATCH --signal=B:USR1@120
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=320
#SBATCH hetjob
#SBATCH --job-name=pretrain-trainer
#SBATCH --partition=gpu
#SBATCH --account=vision
#SBATCH --time=24:00:00
#SBATCH '--constraint=h100&ib'
#SBATCH --no-requeue
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem=4096
#SBATCH --gpus-per-node=8
#SBATCH --gres=gpu:h100:8
#SBATCH --exclusive

# A signal before the job can handle it must not end it.
trap '' USR1 USR2
export LOGLEVEL=WARNING
export PYTHONSAFEPATH=1
export TORCH_CPP_LOG_LEVEL=ERROR
exec PYTHON -P -m hardviews.launch.slurm.batch --role trainer --nodes 2:4 --group \
  1 --cpus 32 --gpus 8 --grace 60 --secrets /nfs/you/.secrets \
  '--srun=--container-image=/shared/a b.sqsh' -- --processes 8 --cpus 32 --grace 60 --prepare \
  hardviews.launch.preload -- hardviews.cli pretrain digits --data /shared/digits/train --output \
  '/shared/runs/a run' --training.epochs 3
