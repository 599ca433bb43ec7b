"""Logs of operator and gateway: one JSON object a line; the message is a constant phrase, data are fields.

INFO is a state change that somebody may be paged about, DEBUG the steady state. Code, output and tokens are never
logged. kopf's records pass through the same formatter, so that one format serves the whole process.
"""

import logging
import sys

import structlog

_OURS = ("execpool",)


def configure(level: str) -> None:
    """Send every record of this process to stdout as JSON."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
