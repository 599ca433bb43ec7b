"""What a file for `execpool dev` declares: what is kept of it, and every fault in words that say what would be right."""

from pathlib import Path

import pytest

from execpool.api.generate import CHECKOUT
from execpool.dev.declared import DeclarationError, read

POOL = """apiVersion: execpool.dev/v1alpha1
kind: ExecutionPool
metadata: {name: agents, namespace: team}
spec: {tiers: [{name: local, pods: {max: 4}}]}
"""
KEY = f"""apiVersion: execpool.dev/v1alpha1
kind: ExecutionKey
metadata: {{name: mine, namespace: team}}
spec: {{keyHash: {"a" * 64}, tenant: me}}
"""
NAMESPACE = "{apiVersion: v1, kind: Namespace, metadata: {name: team}}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pool.yaml"


def refused(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(DeclarationError) as caught:
        read(file)
    assert all(sentence.startswith(str(file)) for sentence in caught.value.sentences)
    return "\n".join(caught.value.sentences)


def test_a_pool_and_keys_are_kept_and_a_namespace_makes_no_difference(file: Path):
    file.write_text(f"{NAMESPACE}---\n{POOL}---\n{KEY}")
    declared = read(file)
    assert (declared.namespace, len(declared.pools), len(declared.keys)) == ("team", 1, 1)
    assert declared.specs[0].tiers[0].as_pods().max == 4


def test_without_a_file_there_is_a_pool_all_the_same():
    declared = read(None)
    assert [tier.name for tier in declared.specs[0].tiers] == ["math", "local"]


def test_the_sample_for_a_cluster_is_understood():
    assert read(CHECKOUT / "manifests" / "samples" / "pool.yaml").namespace == "agents"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (POOL.replace("max: 4", "max: 0"), "spec.tiers[0].pods.max is 0: it should be greater than or equal to 1"),
        (POOL.replace("max: 4", "max: 2, warm: 3"), "spec.tiers[0].pods.warm is 3: warm must not be above max"),
        (POOL.replace("max: 4", "slots: 2"), "spec.tiers[0].pods.max is absent, and required"),
        (POOL.replace("max: 4", "max: 4, slot: 2"), "spec.tiers[0].pods.slot is no field of this release; did you mean"),
        (POOL.replace("pods: {max: 4}", "job: {max: 1}"), "spec.tiers[0].job is no field of this release; a tier of Jobs"),
        (POOL.replace("tiers:", "zzz: 1, tiers:"), "spec.zzz is no field of this release; here are replicas, scaledTier"),
        (POOL.replace("v1alpha1", "v1"), "of ExecutionPool is 'execpool.dev/v1'; it should be execpool.dev/v1alpha1"),
        (POOL.replace("name: agents, ", ""), "metadata.name of a document of kind ExecutionPool is absent"),
        (POOL.replace("spec:", "spek:"), "spec of ExecutionPool agents is absent; it should be a mapping"),
        (POOL.replace("ExecutionPool", "Deployment"), "kind is 'Deployment'; `execpool dev` runs ExecutionPool and"),
        (POOL + "---\n" + KEY.replace("team", "other"), "metadata.namespace is other and team; all pools and keys"),
        (POOL + "---\n" + POOL, "metadata.name 'agents' is that of two pools"),
        (POOL + "---\n" + KEY.replace("a" * 64, "short"), "spec.keyHash is 'short': String should match pattern"),
        (NAMESPACE, "it declares no ExecutionPool"),
        ("", "it declares no ExecutionPool"),
        ("[1]", "a document is a list; it should be a mapping"),
        (POOL + "  bad: [", ":5:3: this is not YAML"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_its_value_and_what_would_be_right(file: Path, text: str, sentence: str):
    assert sentence in refused(file, text)


def test_all_faults_are_told_at_once(file: Path):
    said = refused(file, POOL.replace("max: 4", "max: 0, slots: 0"))
    assert "spec.tiers[0].pods.max is 0" in said
    assert "spec.tiers[0].pods.slots is 0" in said


def test_a_file_that_is_not_there_or_is_not_text_is_named(file: Path):
    with pytest.raises(DeclarationError, match="No such file"):
        read(file)
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DeclarationError, match="it is not UTF-8 text"):
        read(file)
