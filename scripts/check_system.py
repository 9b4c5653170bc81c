"""Says what the machine lacks before anything is downloaded. Runs on the system's Python, imports only from it."""

import ctypes
import importlib.util
import sys

NEEDED = (3, 11)


def missing() -> list[str]:
    """One sentence with its mend for everything that is not there."""
    found: list[str] = []
    if sys.version_info < NEEDED:
        found.append(f"Atrium needs Python {NEEDED[0]}.{NEEDED[1]} or newer; this is {sys.version.split()[0]}.")
    if importlib.util.find_spec("ensurepip") is None:
        found.append("Python's venv module is incomplete. Mend: apt-get install python3-venv")
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        found.append("The engine needs GNU OpenMP (libgomp.so.1). Mend: apt-get install libgomp1")
    return found


if __name__ == "__main__":
    complaints = missing()
    sys.exit("\n".join(complaints) or 0)
