"""Starts child processes that cannot be orphaned: the kernel ends them with their parent."""

import os
import sys

# Executes argv[2:] as a child that the kernel kills when the parent (argv[1]) dies, whatever it dies of. It is a
# program of its own rather than a `preexec_fn`, which is unsafe (and from Python 3.12 warned of) once threads run.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone already")
os.execv(sys.argv[2], sys.argv[2:])
"""


def dying_with_parent(command: list[str]) -> list[str]:
    """Return `command` so wrapped that the kernel kills it when the thread that starts it ends (on Linux)."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
