"""Features of frozen encoders: of which images, through which map, computed once and kept."""
