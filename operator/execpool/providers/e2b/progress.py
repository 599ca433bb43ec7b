"""What a step of a record came to."""

from dataclasses import dataclass

from execpool.providers.e2b.records import Record


@dataclass(frozen=True)
class Again:
    """Decide again with this record."""

    record: Record


@dataclass(frozen=True)
class Later:
    """Nothing to do for so many seconds, unless the record changes."""

    seconds: float


@dataclass(frozen=True)
class Over:
    """Nothing of it is left: its record may go."""

    record: Record


@dataclass(frozen=True)
class Vanished:
    """The record is gone."""


Progress = Again | Later | Over | Vanished
