"""The quality of a frozen encoder: features, k-NN, linear probe."""
