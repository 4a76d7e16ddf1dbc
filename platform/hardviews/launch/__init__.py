"""TorchX components, schedulers and the coordinator."""
