"""Are these the same weights?  Two checkpoints of whatever formats, tensor by tensor in library names."""
