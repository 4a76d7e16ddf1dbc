"""The files of a run: checkpoints, its ledger, its lives and its history."""
