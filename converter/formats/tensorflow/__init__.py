"""TensorFlow's checkpoints, SavedModels and frozen graphs."""
