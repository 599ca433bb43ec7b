"""What a YAML file declares, held against the models before anything starts; faults say where, what, and what then.

    file.yaml: spec.tiers[0].pods.max is 0: it should be greater than or equal to 1

Of the kinds that a cluster knows, those that mean something here are kept: pools, and keys that are made for them.
A Namespace is understood and makes no difference; anything else is refused, since it would silently do nothing.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from execpool.api.model import Fault, Model, faults
from execpool.api.names import API_VERSION
from execpool.api.v1alpha1 import ExecutionKeySpec, ExecutionPoolSpec

DEFAULT = Path(__file__).with_name("default.yaml")
Document = dict[str, Any]

_SPECS: Mapping[str, type[Model]] = {"ExecutionPool": ExecutionPoolSpec, "ExecutionKey": ExecutionKeySpec}
_IDLE_KINDS = ("Namespace",)
_LONGEST_VALUE = 60


class DeclarationError(Exception):
    """A file does not declare pools that can be run; `sentences` say why, each on its own."""

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = tuple(sentences)


@dataclass(frozen=True)
class Declared:
    """What is to be run.

    Attributes:
        source: what to call the file in messages.
        namespace: of all of it.
        pools: as an API server would have them.
        keys: the same.
        specs: of the pools, in their order.
    """

    source: str
    namespace: str
    pools: tuple[Document, ...]
    keys: tuple[Document, ...]
    specs: tuple[ExecutionPoolSpec, ...]


def read(file: Path | None) -> Declared:
    """Read a file; the pool that comes with the release when there is none.

    Raises:
        DeclarationError: with everything that is wrong.
    """
    source = str(file) if file is not None else "the default pool"
    documents = _documents(file or DEFAULT, source)
    wrong = [f"{source}: {sentence}" for document in documents for sentence in _faults_of(document)]
    if wrong:
        raise DeclarationError(wrong)
    kept = {kind: tuple(document for document in documents if document["kind"] == kind) for kind in _SPECS}
    pools, keys = kept["ExecutionPool"], kept["ExecutionKey"]
    if not pools:
        raise DeclarationError([f"{source}: it declares no ExecutionPool; manifests/samples/pool.yaml is one"])
    return Declared(source, _namespace(source, (*pools, *keys)), pools, keys, _specs(source, pools))


def _documents(file: Path, source: str) -> list[Document]:
    try:
        read = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise DeclarationError([f"{source}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise DeclarationError([f"{source}: it is not UTF-8 text"]) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise DeclarationError([f"{source}{where}: this is not YAML: {problem}"]) from error
    strange = [type(document).__name__ for document in read if not isinstance(document, dict | None)]
    if strange:
        sentence = (
            f"{source}: a document is a {strange[0]}; it should be a mapping with apiVersion, kind, metadata, spec"
        )
        raise DeclarationError([sentence])
    return [document for document in read if document]


def _faults_of(document: Document) -> Iterator[str]:
    """Yield what is wrong with the frame of a document; its spec is looked at later, when the frame stands."""
    kind = str(document.get("kind", ""))
    if kind in _IDLE_KINDS:
        return
    if kind not in _SPECS:
        yield f"kind is {kind!r}; `execpool dev` runs {' and '.join(_SPECS)}, everything else needs a cluster"
        return
    if document.get("apiVersion") != API_VERSION:
        yield f"apiVersion of {kind} is {_shown(document.get('apiVersion'))}; it should be {API_VERSION}"
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        yield f"metadata.name of a document of kind {kind} is {_shown(name)}; it should be a name"
    if not isinstance(document.get("spec"), dict):
        yield f"spec of {kind} {name} is {_shown(document.get('spec'))}; it should be a mapping"
        return
    try:
        _SPECS[kind].model_validate(document["spec"])
    except ValidationError as error:
        details = error.errors(include_url=False)
        for detail, fault in zip(details, faults(error), strict=True):
            yield _sentence(_SPECS[kind], document, detail, fault)


def _sentence(model: type[Model], document: Document, detail: Any, fault: Fault) -> str:
    steps = [step for step in detail["loc"] if isinstance(step, str | int)]
    if detail["type"] == "extra_forbidden":
        known = _fields_at(model, steps[:-1])
        close = difflib.get_close_matches(str(steps[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"here are {', '.join(known)}"
        if steps[-1] == "job":
            hint = "a tier of Jobs needs a cluster, and a later release; leave it out"
        return f"{fault.path} is no field of this release; {hint}"
    if detail["type"] == "missing":
        return f"{fault.path} is absent, and required"
    value = _at(document, fault.path)
    message = detail["msg"]
    message = f"it should {message.removeprefix('Input should ')}" if message.startswith("Input should ") else message
    return f"{fault.path} is {_shown(value)}: {message}"


def _fields_at(model: type[Model], steps: Sequence[str | int]) -> list[str]:
    """Return the names of the fields of what is found by walking down from a model."""
    here: Any = model
    for step in steps:
        if isinstance(step, str):
            here = next((field.annotation for field in here.model_fields.values() if field.alias == step), None)
        here = _model_in(here)
        if here is None:
            return []
    return [str(field.alias or name) for name, field in here.model_fields.items()]


def _model_in(annotation: Any) -> Any:
    """Return the model in an annotation such as `list[Tier]` or `PodsTier | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def _at(document: Document, path: str) -> Any:
    """Return the value at a path such as `spec.tiers[0].pods.max`; None when there is none."""
    value: Any = document
    for step in path.replace("[", ".[").split("."):
        try:
            value = value[int(step[1:-1])] if step.startswith("[") else value[step]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return value


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    text = "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _namespace(source: str, documents: Sequence[Document]) -> str:
    found = sorted({str(document["metadata"].get("namespace") or "default") for document in documents})
    if len(found) > 1:
        sentence = f"{source}: metadata.namespace is {' and '.join(found)}; all pools and keys have to be in one"
        raise DeclarationError([sentence])
    return found[0]


def _specs(source: str, pools: Sequence[Document]) -> tuple[ExecutionPoolSpec, ...]:
    found = [document["metadata"]["name"] for document in pools]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise DeclarationError([f"{source}: metadata.name {twice[0]!r} is that of two pools; names have to be unique"])
    return tuple(ExecutionPoolSpec.model_validate(document["spec"]) for document in pools)
