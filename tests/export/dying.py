"""Uses a registry in processes that kill themselves before their n-th change. `python -m tests.export.dying`.

Reads one JSON list a line, [n, action, url, argument, ...], and prints exit codes. It forks: imports are paid for once.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiobotocore.client
import s3fs  # noqa: F401  # imported before the forks

from export.bundle import Bundle
from export.registry import Conflict, Registry

CHANGES = frozenset({"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.copyfile"})
WRITES = ("Put", "Delete", "Create", "Complete", "Upload")


def die_before(number: int, url: str) -> None:
    """Arrange for SIGKILL right before the n-th change, on disk or, if that is where the registry is, in S3."""
    seen = 0

    def step() -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or writes:
            step()

    fsync, call = os.fsync, aiobotocore.client.AioBaseClient._make_api_call

    def dying_fsync(descriptor: Any) -> None:
        step()
        fsync(descriptor)

    async def dying_call(self: Any, operation: str, arguments: dict[str, Any]) -> Any:
        if operation.startswith(WRITES):
            step()
        return await call(self, operation, arguments)

    if url.startswith("s3://"):
        aiobotocore.client.AioBaseClient._make_api_call = dying_call
    else:
        vars(os)["fsync"] = dying_fsync
        sys.addaudithook(audit)


def act(action: str, url: str, argument: str) -> None:
    """Do one thing to the registry."""
    registry = Registry.open(url)
    if action == "publish":
        registry.publish(argument)
    elif action == "promote":
        current = registry.current()
        registry.promote(argument, current.number if current else None)
    elif action == "prune":
        registry.prune(1, frozenset())
    elif action == "fetch":
        version, _, cache = argument.partition(" ")
        assert isinstance(registry.fetch(version, Path(cache)), Bundle)
    else:
        raise ValueError(action)


def child(number: int, action: str, url: str, argument: str, start: int) -> int:
    """Fork a process that waits for a byte from ``start``, and then acts; return its id."""
    pid = os.fork()
    if pid:
        return pid
    os.read(start, 1)
    try:
        if number:
            die_before(number, url)
        act(action, url, argument)
        os._exit(0)
    except Conflict:
        os._exit(3)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def main() -> None:
    """Answer each line with the exit codes: of one process, or of as many as there are arguments."""
    for line in sys.stdin:
        number, action, url, *arguments = json.loads(line)
        start, gun = os.pipe()
        pids = [child(number, action, url, argument, start) for argument in arguments]
        os.write(gun, b"x" * len(pids))
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)
        os.close(start)
        os.close(gun)


if __name__ == "__main__":
    main()
