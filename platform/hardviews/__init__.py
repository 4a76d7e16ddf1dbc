"""Elastic pretraining of visual encoders on hard views."""

__version__ = "0.1.0"
