#!/bin/bash
#SBATCH --job-name=pack-packer
#SBATCH --requeue
#SBATCH --output=/shared/jobs/slurm-%j-packer-0.log
#SBATCH --open-mode=append
#SBATCH --chdir=/shared/jobs
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4096

# A signal before the job can handle it must not end it.
trap '' USR1 USR2
export PYTHONSAFEPATH=1
exec PYTHON -P -m hardviews.launch.slurm.task --folder /shared/jobs -- \
  hardviews.cli pack --source digits --out /shared/digits
