"""Jobs on a cluster that Slurm manages: TorchX's scheduler `slurm`, and the programs inside such a job."""
