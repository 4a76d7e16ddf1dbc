"""Self-supervised methods: pseudo-labels and per-sample pair losses."""
