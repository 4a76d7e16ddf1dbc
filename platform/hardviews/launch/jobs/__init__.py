"""The jobs as TorchX components, one a file: `hardviews.NAME` everywhere, `jobs/NAME.py` in a checkout."""
