"""Benchmarks: reported as ratios to the usual way in the same run, never asserted."""
