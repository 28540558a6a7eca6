"""The demo's child processes: started so that they cannot be orphaned, watched, asked, stopped."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

from consumer.broker import dying_with_parent
from model.errors import Fatal

STOP_SECONDS = 15.0


def spawn(
    stack: ExitStack, arguments: list[str], log: Path, environment: dict[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start `penchant ARGUMENTS`, its output appended to `log`; it is stopped when the stack unwinds."""
    return start(stack, ["consumer.cli", *arguments], log, environment)


def start(
    stack: ExitStack, module: list[str], log: Path, environment: dict[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start `python -m MODULE...`, otherwise as `spawn` does."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            dying_with_parent([sys.executable, "-m", *module]),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours: children are then stopped in order
        )
    stack.callback(stop, child)
    return child


def stop(child: "subprocess.Popen[bytes]") -> None:
    """Ask the child to end (SIGTERM), make it after a while; harmless when it has ended."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def must_live(serve: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Raise `Fatal` with its last words if `serve` has ended."""
    if serve.poll() is not None:
        raise Fatal(f"'penchant serve' ended with status {serve.returncode}: {last_line(folder / 'serve.log')}")


def last_line(log: Path) -> str:
    """Return the last line of a log."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else f"{log} is empty"


def get(port: int, path: str) -> bytes:
    """Return what a child on this machine answers to a GET; raises `URLError` unless it is a 200."""
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        data: bytes = answer.read()
        return data


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def peak_rss_mb(pid: int) -> float:
    """Return the most memory that the process has had, in MB (10^6 bytes); 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    peak = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), "0")
    return round(int(peak) * 1024 / 1e6, 1)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that children are stopped; Ctrl-C, too, where a shell had it ignored."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
