"""What models are for: export, prediction, evaluation, and the images they read."""
