"""Corrections of Monty's built-in functions, in Python that Monty runs before the program. Pure text.

- `round(x, n)`: Monty 1.4 scales and rounds (`round(2.675, 2)` is 2.68); CPython rounds the exact decimal value, as
  formatting does in both.
- `sum` of floats: CPython compensates since 3.12, Monty does not. Where the compensated sum and the exact one agree, it
  is the answer; where they do not, the program is for CPython.

What raises here ends the run as NotSupported, like every exception.
"""

ROUND = """
_execpool_round = round
def round(number, ndigits=None):
    if ndigits is None or not isinstance(number, float):
        return _execpool_round(number, ndigits)
    if ndigits < 0 or ndigits > 30:
        raise NotImplementedError
    return float(format(number, '.' + str(int(ndigits)) + 'f'))
"""

SUM = """
_execpool_sum = sum
import math as _execpool_math
def sum(iterable, /, start=0):
    values = list(iterable)
    total = _execpool_sum(values, start)
    if not isinstance(total, float):
        return total
    high, low = 0.0, 0.0
    for value in [start] + values:
        if not isinstance(value, (int, float)):
            raise NotImplementedError
        value = float(value)
        new = high + value
        if abs(high) >= abs(value):
            low += (high - new) + value
        else:
            low += (value - new) + high
        high = new
    if not high + low == _execpool_math.fsum([start] + values):
        raise NotImplementedError
    return high + low
"""


def prelude(names: set[str], *, compensated: bool) -> str:
    """Return what must come before a program that uses these names; `compensated`: CPython here is 3.12 or later."""
    return (ROUND if "round" in names else "") + (SUM if compensated and "sum" in names else "")
