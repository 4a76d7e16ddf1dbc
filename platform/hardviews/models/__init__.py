"""Backbones, heads' building blocks and BatchNorm branches."""
