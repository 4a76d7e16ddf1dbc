#!/bin/bash
#SBATCH --job-name=pretrain-coordinator
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --output=/shared/jobs/slurm-%j-coordinator-0.log
#SBATCH --open-mode=append
#SBATCH --chdir=/shared/jobs
#SBATCH --signal=B:USR1@120
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=288
#SBATCH hetjob
#SBATCH --job-name=pretrain-trainer
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4096

# A signal before the job can handle it must not end it.
trap '' USR1 USR2
export LOGLEVEL=WARNING
export PYTHONSAFEPATH=1
export TORCH_CPP_LOG_LEVEL=ERROR
exec PYTHON -P -m hardviews.launch.slurm.batch --role trainer --nodes 1:2 --group \
  1 --cpus 2 --gpus 0 --grace 60 --requeue -- --processes 1 --cpus 2 --grace 60 --prepare \
  hardviews.launch.preload -- hardviews.cli pretrain digits --data /shared/digits/train --output \
  '/shared/runs/a run'
