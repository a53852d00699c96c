"""What goes wrong on clusters, done for real, and what it cost: for tests of faults."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
from contextlib import suppress

from dresoftmax.engines.dask import DaskEngine
from dresoftmax.fit import multi_target
from dresoftmax.reductions.evaluate import evaluate_blocks


class Proxy:
    """A TCP connection to a scheduler, that can be cut and come back."""

    def __init__(self, address):
        host, port = address.removeprefix("tcp://").split(":")
        self._target = host, int(port)
        self._sockets, self._threads = [], []
        self._connected = True
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._start(self._accept)

    def cut(self):
        """Break all connections, and let none come until `mend`."""
        self._connected = False
        while self._sockets:
            _shut(self._sockets.pop())

    def mend(self):
        """Let connections come again."""
        self._connected = True

    def close(self):
        """Break all connections for good."""
        _shut(self._server)
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _start(self, target, *args):
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self):
        with self._server, suppress(OSError):  # its end
            while True:
                near, _ = self._server.accept()
                if not self._connected:
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                self._sockets += near, far
                self._start(_carry, near, far)
                self._start(_carry, far, near)


def _carry(source, target):
    with source, suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    _shut(target)


def _shut(each):
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


class Watched:
    """Reads that say how many blocks they begin on, and where one of them does something.

    Parameters
    ----------
    folder : Path
        Where each read leaves a file.
    blocks : int
        How many there are.
    at : int
        In which reduction `act` is called.
    act : callable
        Called by one of its tasks, once, with the folder, after half of the blocks.
    """

    def __init__(self, folder, blocks, at, act):
        self.folder, self.blocks, self.at, self.act = folder, blocks, at, act
        self.reductions = 0

    def __call__(self, queries, blocks, threads):
        (self.folder / f"{len(blocks)}-{uuid.uuid4().hex}").touch()
        if self.reductions == self.at:
            evaluate_blocks(queries, blocks[: len(blocks) // 2], threads)
            with suppress(FileExistsError):
                (self.folder / "acted").touch(exist_ok=False)
                self.act(self.folder)
        return evaluate_blocks(queries, blocks, threads)

    def install(self, monkeypatch):
        """Have solves read by it, and count their reads of all rows."""
        reduce = DaskEngine.reduce

        def counted(engine, task):
            self.reductions += getattr(task, "func", None) is self
            return reduce(engine, task)

        monkeypatch.setattr(multi_target, "evaluate_blocks", self)
        monkeypatch.setattr(DaskEngine, "reduce", counted)

    @property
    def acted(self):
        """Whether `act` has been called."""
        return (self.folder / "acted").exists()

    @property
    def extra(self):
        """How many blocks were begun on beyond one time in each read."""
        begun = [int(path.name.split("-")[0]) for path in self.folder.glob("*-*")]
        return sum(begun) - self.reductions * self.blocks


def die(folder):
    """Kill this worker, as a machine that fails does."""
    os.kill(os.getpid(), signal.SIGKILL)


def linger(folder):
    """Give others time to act on this read."""
    time.sleep(0.5)


def wait_until(condition, timeout=20.0):
    """Wait for something to become true, and return whether it did."""
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()
