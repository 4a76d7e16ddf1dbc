"""Jobs on a cluster that Slurm manages: TorchX's scheduler `slurm`, and what runs inside such a job."""
