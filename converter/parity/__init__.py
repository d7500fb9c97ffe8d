"""Proof that two models compute the same: inputs, engines, comparison, report."""
