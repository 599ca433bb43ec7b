"""Kubernetes quantities as numbers, as far as our schema admits them (no exponents)."""

from fractions import Fraction

_UNITS = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    "k": Fraction(1000),
    **{unit: Fraction(1000 ** (power + 2)) for power, unit in enumerate("MGTPE")},
    **{f"{unit}i": Fraction(1024 ** (power + 1)) for power, unit in enumerate("KMGTPE")},
}


def parse_quantity(text: str) -> Fraction:
    """Return the value of a quantity such as `500m`, `2`, `1.5Gi`.

    Raises:
        ValueError: when it is none.
    """
    number = text.rstrip("".join(sorted(set("".join(_UNITS)))))
    unit = text[len(number) :]
    if unit not in _UNITS:
        raise ValueError(f"{text!r} has no unit of Kubernetes; use for example 500m, 2 or 1Gi")
    return Fraction(number) * _UNITS[unit]
