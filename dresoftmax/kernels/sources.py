"""A checksum of all source files that are compiled into a kernel.

Numba keeps the machine code of a function on disk, and looks for changes in the file of that
function alone.  Its key has the values that the function closes over, too: a kernel that
closes over this number is compiled anew when any of the files below has changed.
"""

from __future__ import annotations

import zlib
from pathlib import Path

__all__ = ["SOURCES"]


def _checksum() -> int:
    checksum, here = 0, Path(__file__).parent
    for folder in (here, here.parent / "model"):
        for path in sorted(folder.glob("*.py")):
            checksum = zlib.crc32(path.read_bytes(), checksum)
    return checksum


SOURCES = _checksum()
