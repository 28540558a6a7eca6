"""Models go live under load, good ones and bad ones; then every event's list is looked for."""

import os

# As in `penchant` itself, and before numpy is imported: two threads double the CPU per event and gain nothing.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
