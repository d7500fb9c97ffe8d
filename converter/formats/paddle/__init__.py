"""Paddle's parameters and programs."""
