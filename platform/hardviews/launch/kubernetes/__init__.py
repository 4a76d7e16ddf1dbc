"""TorchX's Kubernetes scheduler for elastic jobs: manifest, checks before submission, status, logs."""
