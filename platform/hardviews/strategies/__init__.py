"""Hard views: selection, mixing, attacks, and their composition."""
