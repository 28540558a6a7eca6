"""The broker that suffers faults, over all its lives."""

import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from consumer.broker import BrokerError, EmbeddedBroker
from tests.torture.faults import STOP, Fault
from tests.torture.instance import Instance

BUSY_SECONDS = 1.0
"""An instance that suffers something else for longer is not waited for."""
PORTS = range(20_000, 30_000)
"""Below those that systems give to outgoing connections: a client that tries again and again while the broker is away
would now and then be given the broker's port for its own end, and the broker could not come back."""
ATTEMPTS = 5
PROPERTIES = {
    # Looks every second for transactions that are past their time-out; by default every 10 s, which would be
    # most of a takeover from an instance that died within a transaction.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
}


def quiet_port() -> int:
    """Return a port that nobody listens on; raises `OSError` where all are taken."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port is free from {PORTS.start} to {PORTS.stop - 1}")


class Node:
    """A Kafka of one node, always on the same port and folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, quiet_port()
        self._broker: EmbeddedBroker | None = None
        self.instances: Sequence[Instance] = ()
        """Of whose transactions one may be open when the broker goes away."""

    @property
    def bootstrap(self) -> str:
        """Its address, in all its lives."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it; it ends with the thread that called this."""
        for attempt in range(ATTEMPTS):
            try:
                self._broker = EmbeddedBroker.start(self._folder, self._port, PROPERTIES)
                break
            except BrokerError:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(1.0)

    def watch(self) -> None:
        """Start it again if it ended by itself."""
        if self._broker is not None and not self._broker.is_running():
            self.start()

    def prepare(self, fault: Fault) -> bool:
        """Wait for nothing."""
        return True

    def do(self, fault: Fault) -> bool:
        """Do a fault, and undo it; say whether a transaction was open at that moment."""
        for instance in self.instances if fault.within else ():
            if instance.lock.acquire(timeout=BUSY_SECONDS):
                try:
                    if instance.catch():
                        self._away(fault)
                        instance.signal(signal.SIGCONT)
                        break
                finally:
                    instance.lock.release()
        else:
            self._away(fault)
            self._back(fault)
            return False
        self._back(fault)
        return True

    def _away(self, fault: Fault) -> None:
        assert self._broker is not None
        if fault.how == STOP:
            os.kill(self._broker.pid, signal.SIGSTOP)
        else:
            self._broker.kill()

    def _back(self, fault: Fault) -> None:
        assert self._broker is not None
        time.sleep(fault.lasts)
        if fault.how == STOP:
            os.kill(self._broker.pid, signal.SIGCONT)
        else:
            self.start()

    def kill(self) -> None:
        """Let it die; whoever watches it starts it again."""
        if self._broker is not None:
            self._broker.kill()

    def finish(self) -> int:
        """Stop it."""
        if self._broker is not None:
            self._broker.stop()
        return 0
