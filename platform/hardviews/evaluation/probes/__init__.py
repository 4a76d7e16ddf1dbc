"""Protocols: each is fitted on features of labelled images, then predicts the test images."""
