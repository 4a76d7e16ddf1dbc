"""Settings shared by every test."""

import torch

# The machine has few cores and tests run side by side with servers and workers of their own.
torch.set_num_threads(1)
