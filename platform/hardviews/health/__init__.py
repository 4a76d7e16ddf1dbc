"""Whether representations are alive: figures of features that need no labels, and a verdict on a run."""
