"""Measurements while a training goes on: scores on labelled images, health, pictures."""
