"""The content of a build context as one digest, so that unchanged inputs build nothing.

The files are those that the builder would see: everything but what .dockerignore leaves
out (last matching pattern wins, `!` takes back in, `**` spans folders), and never .git.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Rules = list[tuple[re.Pattern[str], bool]]


@dataclass(frozen=True)
class Inputs:
    """Everything that decides what a build makes."""

    context: Path
    dockerfile: Path
    arguments: dict[str, str]
    only: tuple[str, ...] = ()
    """The paths that the build copies, where that is less than the whole context."""
    base: str = ""
    """The base image's identity, since its name stays when its content changes."""

    def digest(self) -> str:
        """Return the digest over all of it; file times do not count."""
        total = hashlib.sha256(repr((sorted(self.arguments.items()), self.base)).encode())
        total.update(self.dockerfile.read_bytes())
        for file in files(self.context):
            if not self._counts(file):
                continue
            total.update(f"\0{file.relative_to(self.context)}\0".encode())
            total.update(_content(file))
        return total.hexdigest()[:16]

    def _counts(self, file: Path) -> bool:
        return not self.only or any(file.is_relative_to(self.context / path) for path in self.only)


def files(context: Path) -> Iterator[Path]:
    """Yield the files and links that the builder sees, in a stable order."""
    rules = list(_rules(context / ".dockerignore"))
    for folder, subfolders, names in os.walk(context):
        here = Path(folder)
        links = [name for name in subfolders if (here / name).is_symlink()]
        subfolders[:] = sorted(name for name in subfolders if not _skip_folder(here / name, context, rules))
        for name in sorted([*names, *links]):
            if not _ignored(str((here / name).relative_to(context)), rules):
                yield here / name


def _skip_folder(folder: Path, context: Path, rules: Rules) -> bool:
    if folder.name == ".git" and folder.parent == context:
        return True
    # A pattern that takes something back in may reach into an ignored folder.
    takes_back = any(not ignore for _, ignore in rules)
    return not takes_back and _ignored(str(folder.relative_to(context)), rules)


def _content(file: Path) -> bytes:
    if file.is_symlink():
        return b"link " + os.fsencode(file.readlink())
    kind = b"program " if os.access(file, os.X_OK) else b"file "
    return kind + hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"special"


def _rules(file: Path) -> Iterator[tuple[re.Pattern[str], bool]]:
    lines = file.read_text().splitlines() if file.exists() else []
    for line in (raw.strip() for raw in lines):
        if line and not line.startswith("#"):
            yield _pattern(line.removeprefix("!").strip("/")), not line.startswith("!")


def _ignored(path: str, rules: Rules) -> bool:
    verdict = False
    for pattern, ignore in rules:
        if pattern.fullmatch(path):
            verdict = ignore
    return verdict


def _pattern(text: str) -> re.Pattern[str]:
    """Translate one .dockerignore pattern; a matched folder takes all below it along."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]*\])", text)
    body = "".join(parts.get(token, token if token.startswith("[") else re.escape(token)) for token in tokens)
    return re.compile(f"{body}(?:/.*)?", re.DOTALL)
