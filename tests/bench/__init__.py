"""Benchmarks: reported as ratios to the usual way in the same run, never asserted."""

import os

# As in `penchant` itself, and before numpy is imported: two threads double the CPU per event and gain nothing.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
