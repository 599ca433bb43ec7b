"""Open matplotlib figures become results when a program ends, as they do below a notebook cell.

Only when the program imported `matplotlib.pyplot` itself: nothing is imported here that it has not.
"""

import base64
import io
import sys
import warnings
from collections.abc import Callable
from typing import Any

MAX_FIGURES = 20
MAX_PNG_BYTES = 1 << 20


def quiet_show() -> None:
    """Let `plt.show()` pass without its warning that nothing is shown: the figure is sent when the program ends."""
    warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive", category=UserWarning)


def emit_open(emit: Callable[[dict[str, Any]], None]) -> None:
    """Send every open figure as a PNG and close it."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums()[:MAX_FIGURES]:
        figure = pyplot.figure(number)
        image = io.BytesIO()
        figure.savefig(image, format="png", bbox_inches="tight")
        pyplot.close(figure)
        if len(image.getvalue()) <= MAX_PNG_BYTES:
            png = base64.b64encode(image.getvalue()).decode("ascii")
            emit({"type": "result", "png": png, "text": repr(figure), "is_main_result": False})
