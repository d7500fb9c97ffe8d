"""The repository folder, its model card, the push, and the proof of what is published."""
