"""Recipes: functions that return a complete configuration."""
