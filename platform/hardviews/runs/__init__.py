"""What a run leaves behind: checkpoints, its ledger, its lives and its history."""
