"""A file that outlives the server's container: this executor was claimed, so it may serve nobody after a restart.

Written and synced before the claim is granted. The order makes the promise: a claim that was granted has a marker, even
if the machine loses power in between; a marker without a claim only costs one warm executor.
"""

import os
from pathlib import Path


class MarkerError(OSError):
    """The marker is not safely on disk: no claim may be granted."""


class Marker:
    """The file `claimed` in the server's state directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "claimed"
        self._written = False

    def exists(self) -> bool:
        """True when a server of this executor granted a claim, or was about to."""
        return self._path.exists()

    def write(self) -> None:
        """Put the marker on disk; does nothing after the first time.

        Raises:
            MarkerError: when it is not certain to be there.
        """
        if self._written:
            return
        try:
            self._sync(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600))
            self._sync(os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY))
        except OSError as error:
            raise MarkerError(error.errno, "the claim could not be recorded") from error
        self._written = True

    @staticmethod
    def _sync(descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
