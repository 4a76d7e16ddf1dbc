"""What a frozen encoder is worth: features, k-NN, linear probe."""
