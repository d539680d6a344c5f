"""Measured claims, as ratios in one interleaved run."""
