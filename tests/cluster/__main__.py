"""Lets `python3 tests/cluster` run the folder as the package it is."""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    # Run by path, a folder's __main__ has no package, and relative imports would fail.
    package = Path(__file__).resolve().parent
    sys.path[0] = str(package.parent)
    sys.exit(importlib.import_module(f"{package.name}.cli").main())
