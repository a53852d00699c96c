"""A cluster inside one command: worker processes that live as long as the command.

For the command line and the demo.  Programs start their own cluster and pass
its client, or leave it current.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["embedded_client"]


@contextmanager
def embedded_client(workers: int) -> Iterator[Client]:
    """Start `workers` worker processes on this machine and yield their client."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            processes=True,
            dashboard_address=None,
            # Else its HTTP server takes port 8787, and warns where a dashboard has it.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
