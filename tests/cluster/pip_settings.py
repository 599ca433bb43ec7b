"""The host's way to its Python package index, handed to image builds.

The settings are collected from pip's configuration files and PIP_* variables, written to
one file and mounted over /etc/pip.conf while a build runs. They never enter the image.
"""

import configparser
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian's tools and Python look for it inside the image."""

_TRANSPORT = frozenset(
    ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "timeout", "retries")
)


def mounts(folder: Path) -> list[str]:
    """Return the builder's --volume words; writes the settings file into `folder`."""
    settings = collect()
    authority = _host_bundle()
    volumes = [f"{path}:{path}:ro" for path in settings.get("find-links", "").split() if Path(path).is_dir()]
    if authority:
        settings["cert"] = CA_BUNDLE
        volumes.append(f"{authority}:{CA_BUNDLE}:ro")
    file = folder / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    volumes.append(f"{file}:/etc/pip.conf:ro")
    return [word for volume in volumes for word in ("--volume", volume)]


def collect() -> dict[str, str]:
    """Return the transport settings in force on the host: later files win, the environment last."""
    found: dict[str, str] = {}
    for file in _files():
        # RawConfigParser: index addresses may hold percent signs.
        parser = configparser.RawConfigParser()
        parser.read(file)
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update((_name(key), _one_line(value)) for key, value in parser.items(section))
    for variable, value in os.environ.items():
        if variable.startswith("PIP_"):
            found[_name(variable.removeprefix("PIP_"))] = value
    return {name: value for name, value in found.items() if name in _TRANSPORT and value}


def _files() -> Iterator[Path]:
    yield Path("/etc/pip.conf")
    yield Path.home() / ".pip" / "pip.conf"
    yield Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pip" / "pip.conf"
    if named := os.environ.get("PIP_CONFIG_FILE"):
        yield Path(named)


def _name(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("default-")


def _one_line(value: str) -> str:
    return " ".join(value.split())


def _host_bundle() -> str | None:
    named = (os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile)
    return next((path for path in (*named, CA_BUNDLE) if path and Path(path).is_file()), None)
