"""Hard views for a training loop of one's own: plain tensors and callables, no recipe and no run."""
