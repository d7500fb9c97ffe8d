"""Truths of images, figures of answers, and reports on them; ``use/evaluate.py`` puts a network between."""
