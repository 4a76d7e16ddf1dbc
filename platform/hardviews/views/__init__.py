"""Views as rows of numbers, and the renderers that turn them into pixels."""
