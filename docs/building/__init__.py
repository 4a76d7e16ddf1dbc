"""How the site of this documentation is built: what `docs/conf.py` adds to Sphinx."""
