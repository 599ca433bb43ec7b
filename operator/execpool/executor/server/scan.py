"""Which imports a program will want, by a look at its text. Wrong in both directions, at no risk: only the speed differs."""

import re
from functools import lru_cache

from execpool.executor.frames import Imports

_SCIENCE = re.compile(
    r"\b(?:scipy|sklearn|matplotlib|seaborn|statsmodels|plt|pylab)\b|\.(?:plot|hist|boxplot)\b", re.ASCII
)
_REMEMBERED = 256


@lru_cache(_REMEMBERED)
def wanted_imports(code: str) -> Imports:
    """Return the imports that a program should find done. Comments and texts count too."""
    return Imports.SCIENCE if _SCIENCE.search(code) else Imports.BASE
