"""execpool: a Kubernetes operator and gateway for the capacity that runs AI-written Python."""

__version__ = "0.1.0"
