"""Specs that are right and specs that are wrong: one table for pydantic (unit) and for the API server (e2e).

They are YAML as people write it, since some mistakes are made by YAML itself. A wrong one names the field that must be
blamed, in the API server's notation.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Invalid:
    """A wrong spec; `path` is the field to blame, `elsewhere` where the API server points instead of pydantic."""

    name: str
    spec: str
    path: str
    elsewhere: str = ""

    @property
    def server_path(self) -> str:
        return self.elsewhere or self.path


def _tier(pods: str = "max: 6", name: str = "local") -> str:
    return f"tiers: [{{name: {name}, pods: {{{pods}}}}}]"


def _two(first: str, second: str, more: str = "") -> str:
    return f"{{{more}tiers: [{{name: a, pods: {{{first}}}}}, {{name: b, pods: {{{second}}}}}]}}"


def _template(content: str) -> str:
    return _tier(f"max: 6, podTemplate: {{{content}}}")


def _budget(content: str) -> str:
    return f"{{budgets: [{{{content}}}], {_tier()}}}"


def _capacity(content: str) -> str:
    limit = "" if "limit" in content else ", limit: 1"
    return f"{{budgets: [{{name: a, {content}{limit}}}], tiers: [{{name: e2b, e2b: {{accountRef: {{name: m}}, max: 2}}}}]}}"


def _limits(content: str) -> str:
    return _tier(f"max: 6, resources: {{limits: {{{content}}}}}")


_PODS = "spec.tiers[0].pods"
_LIMITS = f"{_PODS}.resources.limits"
_TEMPLATE = f"{_PODS}.podTemplate"

VALID_POOLS = {
    "the least that is a pool": _tier(),
    "every field": """
replicas: 2
scaledTier: local
suspend: true
deletion: {policy: Delete, timeoutSeconds: 0}
queue: {maxDepth: 0, maxWaitSeconds: 3600}
tiers:
- name: local
  pods:
    runtime: Python
    max: 6
    slots: 1
    image: registry.example.com/team/executor@sha256:0000000000000000000000000000000000000000000000000000000000000000
    resources: {limits: {cpu: 500m, memory: 1.5Gi}, requests: {cpu: 1m, memory: 1Gi}}
    runtimeClassName: gvisor
    network: Egress
    idleSeconds: 5
    maxAgeSeconds: 604800
    podTemplate:
      labels: {cost-centre: research, example.com/team: a}
      annotations: {why: "because: it is so"}
      imagePullSecrets: [{name: pull}]
      nodeSelector: {kubernetes.io/arch: amd64}
      tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}, {operator: Exists}]
      priorityClassName: low
- name: spare
  pods: {max: 1000, warm: 1000}
""",
    "quantities written as numbers": _limits("cpu: 2, memory: 2147483648"),
    "a quantity below one": _limits("cpu: 0.5e0, memory: 512Mi").replace("0.5e0", '"0.5"'),
    "no warm executors at all": "{replicas: 0, " + _tier() + "}",
    "more replicas than max, as a scale may ask": "{replicas: 8, " + _tier("max: 3") + "}",
    "a second tier that keeps warm executors": _two("max: 3", "max: 3, warm: 2", "scaledTier: a, "),
    "a quoted None": _tier('max: 6, network: "None"'),
    "Monty": _tier("max: 6, runtime: Monty"),
    "an E2B tier": "tiers: [{name: e2b, e2b: {accountRef: {name: main}, max: 16}}]",
    "pods before E2B": """
scaledTier: e2b
replicas: 3
tiers:
- {name: local, pods: {max: 4, warm: 1}}
- name: e2b
  e2b:
    accountRef: {name: main, namespace: platform}
    template: team/code-interpreter-v1:stable
    max: 16
    idleSeconds: 60
    maxAgeSeconds: 3000
    vcpus: 4
    memoryMib: 512
""",
    "budgets": """
budgets:
- {name: e2b-executions, tier: e2b, resource: Executions, limit: 60, windowSeconds: 60, burst: 10}
- {name: per-user, resource: Executions, scope: User, limit: 120}
- {name: per-user-slots, resource: Concurrency, scope: User, limit: 4, onExhausted: Refuse}
tiers: [{name: e2b, e2b: {accountRef: {name: main}, max: 16}}]
""",
    "budgets of capacity": """
scaledTier: e2b
budgets:
- {name: daily, resource: SpendMicroUSD, limit: 20000000, windowSeconds: 86400, onExhausted: Refuse}
- {name: creates, resource: Creates, tier: e2b, limit: 100, windowSeconds: 3600, burst: 5}
- {name: sandboxes, resource: Sandboxes, scope: Pool, limit: 8}
tiers: [{name: local, pods: {max: 4, warm: 1}}, {name: e2b, e2b: {accountRef: {name: main}, max: 16}}]
""",
    "Monty before Python": _two("max: 6, runtime: Monty", "max: 6, warm: 1", "scaledTier: a, "),
    "a bare None, which YAML takes for text": _tier("max: 6, network: None"),
}

INVALID_POOLS = (
    # types
    Invalid("replicas as text", '{replicas: "3", ' + _tier() + "}", "spec.replicas"),
    Invalid("a fraction of a replica", "{replicas: 1.5, " + _tier() + "}", "spec.replicas"),
    Invalid("replicas as a boolean", "{replicas: true, " + _tier() + "}", "spec.replicas"),
    Invalid("suspend as text", '{suspend: "yes", ' + _tier() + "}", "spec.suspend"),
    Invalid("tiers as a map", "tiers: {local: {pods: {max: 6}}}", "spec.tiers"),
    Invalid("pods as a list", "tiers: [{name: local, pods: [{max: 6}]}]", _PODS),
    Invalid("a duration with a unit", _tier("max: 6, maxAgeSeconds: 1h"), f"{_PODS}.maxAgeSeconds"),
    Invalid("Off without quotes, which YAML takes for false", _tier("max: 6, network: Off"), f"{_PODS}.network"),
    # unknown fields
    Invalid("a misspelled field of the spec", "{replica: 3, " + _tier() + "}", "spec.replica"),
    Invalid("a misspelled field of a tier", _tier("max: 6, maximum: 6"), f"{_PODS}.maximum"),
    Invalid("a tier kind of a later release", "tiers: [{name: a, pods: {max: 1}, job: {max: 1}}]", "spec.tiers[0].job"),
    Invalid(
        "a tier of two kinds",
        "tiers: [{name: a, pods: {max: 1}, e2b: {accountRef: {name: m}, max: 1}}]",
        "spec.tiers[0]",
    ),
    Invalid("a resource that executors do not have", _limits("gpu: 1"), f"{_LIMITS}.gpu"),
    Invalid(
        "a storage request",
        _tier("max: 6, resources: {requests: {ephemeral-storage: 1Gi}}"),
        f"{_PODS}.resources.requests.ephemeral-storage",
    ),
    Invalid("a pod field that is not allowed", _template("hostNetwork: true"), f"{_TEMPLATE}.hostNetwork"),
    Invalid("a security context", _template("securityContext: {runAsUser: 0}"), f"{_TEMPLATE}.securityContext"),
    # absent and empty
    Invalid("no tiers", "replicas: 3", "spec.tiers"),
    Invalid("an empty list of tiers", "tiers: []", "spec.tiers"),
    Invalid("no max", _tier("slots: 4"), f"{_PODS}.max"),
    Invalid("a tier of no kind", "tiers: [{name: local}]", "spec.tiers[0]"),
    Invalid("an E2B tier without an account", "tiers: [{name: a, e2b: {max: 1}}]", "spec.tiers[0].e2b.accountRef"),
    Invalid(
        "warm on the scaled E2B tier", "tiers: [{name: a, e2b: {accountRef: {name: m}, max: 2, warm: 1}}]", "spec.tiers"
    ),
    Invalid(
        "a template with a query",
        'tiers: [{name: a, e2b: {accountRef: {name: m}, max: 2, template: "base?x=1"}}]',
        "spec.tiers[0].e2b.template",
    ),
    Invalid("a tier without a name", "tiers: [{pods: {max: 6}}]", "spec.tiers[0].name"),
    Invalid(
        "a pull secret without a name", _template("imagePullSecrets: [{}]"), f"{_TEMPLATE}.imagePullSecrets[0].name"
    ),
    # bounds
    Invalid("negative replicas", "{replicas: -1, " + _tier() + "}", "spec.replicas"),
    Invalid("more replicas than any pool has", "{replicas: 1001, " + _tier() + "}", "spec.replicas"),
    Invalid("replicas beyond 64 bits", "{replicas: 99999999999999999999, " + _tier() + "}", "spec.replicas"),
    Invalid("max of zero", _tier("max: 0"), f"{_PODS}.max"),
    Invalid("a huge max", _tier("max: 100000"), f"{_PODS}.max"),
    Invalid("negative warm", _two("max: 6", "max: 6, warm: -1", "scaledTier: a, "), "spec.tiers[1].pods.warm"),
    Invalid("no slots", _tier("max: 6, slots: 0"), f"{_PODS}.slots"),
    Invalid("idle for a second", _tier("max: 6, idleSeconds: 1"), f"{_PODS}.idleSeconds"),
    Invalid("a negative drain", "{deletion: {timeoutSeconds: -1}, " + _tier() + "}", "spec.deletion.timeoutSeconds"),
    Invalid("a wait of two hours", "{queue: {maxWaitSeconds: 7200}, " + _tier() + "}", "spec.queue.maxWaitSeconds"),
    Invalid(
        "nine tiers",
        "{scaledTier: t0, tiers: [" + ", ".join(f"{{name: t{i}, pods: {{max: 1}}}}" for i in range(9)) + "]}",
        "spec.tiers",
    ),
    # text
    Invalid("a tier name in capitals", _tier(name="Local"), "spec.tiers[0].name"),
    Invalid("a tier name that is too long", _tier(name="l" * 33), "spec.tiers[0].name"),
    Invalid("an empty tier name", _tier(name='""'), "spec.tiers[0].name"),
    Invalid("an image with a blank", _tier('max: 6, image: "python 3"'), f"{_PODS}.image"),
    Invalid("a runtime class that is no name", _tier("max: 6, runtimeClassName: gVisor!"), f"{_PODS}.runtimeClassName"),
    Invalid("a label value with a blank", _template('labels: {team: "a b"}'), f"{_TEMPLATE}.labels.team"),
    # enums
    Invalid("an enum in lower case", _tier("max: 6, network: egress"), f"{_PODS}.network"),
    Invalid("a network for Monty", _tier("max: 6, runtime: Monty, network: Egress"), f"{_PODS}.network"),
    Invalid("a runtime that is not there", _tier("max: 6, runtime: Node"), f"{_PODS}.runtime"),
    Invalid(
        "a deletion policy that is not there", "{deletion: {policy: Orphan}, " + _tier() + "}", "spec.deletion.policy"
    ),
    Invalid(
        "a toleration operator that is not there",
        _template("tolerations: [{operator: Like}]"),
        f"{_TEMPLATE}.tolerations[0].operator",
    ),
    # quantities
    Invalid("a quantity in words", _limits("cpu: lots"), f"{_LIMITS}.cpu"),
    Invalid("a quantity with a wrong unit", _limits("memory: 2GB"), f"{_LIMITS}.memory"),
    Invalid("a quantity of zero, which would mean no limit", _limits("cpu: 0"), f"{_LIMITS}.cpu"),
    Invalid("a quantity of zero with a unit", _limits("memory: 0Mi"), f"{_LIMITS}.memory"),
    Invalid("a negative quantity", _limits("cpu: -1"), f"{_LIMITS}.cpu"),
    Invalid("a boolean quantity", _limits("cpu: true"), f"{_LIMITS}.cpu"),
    Invalid("a quantity that YAML takes for a fraction", _limits("cpu: 1.5"), f"{_LIMITS}.cpu"),
    # fields that must agree
    Invalid("warm above max", _two("max: 6", "max: 2, warm: 3", "scaledTier: a, "), "spec.tiers[1].pods.warm"),
    Invalid("two tiers and no word on which one replicas counts", _two("max: 1", "max: 1"), "spec.scaledTier"),
    Invalid("a scaled tier that is not there", "{scaledTier: gpu, " + _tier() + "}", "spec.scaledTier"),
    Invalid("warm on the only tier", _tier("max: 6, warm: 3"), "spec.tiers"),
    Invalid("warm on the scaled tier", _two("max: 3, warm: 1", "max: 3", "scaledTier: a, "), "spec.tiers"),
    Invalid(
        "two tiers of one name",
        "{scaledTier: a, tiers: [{name: a, pods: {max: 1}}, {name: a, pods: {max: 2}}]}",
        "spec.tiers",
        "spec.tiers[1]",
    ),
    Invalid(
        "a budget of a tier that is not there",
        _budget("name: a, resource: Executions, limit: 1, tier: gpu"),
        "spec.budgets",
    ),
    Invalid(
        "a window of a budget that has none",
        _budget("name: a, resource: Concurrency, limit: 1, windowSeconds: 60"),
        "spec.budgets[0].resource",
    ),
    Invalid(
        "a burst of a budget that has none",
        _budget("name: a, resource: Concurrency, limit: 1, burst: 2"),
        "spec.budgets[0].resource",
    ),
    Invalid("a budget of nothing", _budget("name: a, resource: Executions, limit: 0"), "spec.budgets[0].limit"),
    Invalid("a budget without a limit", _budget("name: a, resource: Executions"), "spec.budgets[0].limit"),
    Invalid("money of a pool that spends none", _budget("name: a, resource: SpendMicroUSD, limit: 1"), "spec.budgets"),
    Invalid(
        "a budget of sandboxes for a tier of pods",
        "{scaledTier: a, budgets: [{name: a, resource: Creates, tier: b, limit: 1}],"
        " tiers: [{name: a, e2b: {accountRef: {name: m}, max: 2}}, {name: b, pods: {max: 1}}]}",
        "spec.budgets",
    ),
    Invalid("sandboxes in a window", _capacity("resource: Sandboxes, windowSeconds: 60"), "spec.budgets[0].resource"),
    Invalid("a burst of money", _capacity("resource: SpendMicroUSD, burst: 2"), "spec.budgets[0].resource"),
    Invalid("sandboxes of each user", _capacity("resource: Sandboxes, scope: User"), "spec.budgets[0].scope"),
    Invalid("money as a fraction", _capacity("resource: SpendMicroUSD, limit: 0.5"), "spec.budgets[0].limit"),
    Invalid(
        "more money than there is", _capacity("resource: SpendMicroUSD, limit: 1000000000001"), "spec.budgets[0].limit"
    ),
    Invalid(
        "a budget for nobody we know",
        _budget("name: a, resource: Executions, limit: 1, scope: Team"),
        "spec.budgets[0].scope",
    ),
    Invalid(
        "a budget that is exhausted in a way that is not there",
        _budget("name: a, resource: Executions, limit: 1, onExhausted: Queue"),
        "spec.budgets[0].onExhausted",
    ),
    Invalid(
        "two budgets of one name",
        "{budgets: [{name: a, resource: Executions, limit: 1}, {name: a, resource: Executions, limit: 2}], "
        + _tier()
        + "}",
        "spec.budgets",
        "spec.budgets[1]",
    ),
    Invalid("a label that is ours", _template("labels: {execpool.dev/pool: other}"), f"{_TEMPLATE}.labels"),
    Invalid("a label below our domain", _template("labels: {x.execpool.dev/a: b}"), f"{_TEMPLATE}.labels"),
    Invalid(
        "an annotation that changes how a pod is run",
        _template("annotations: {container.apparmor.security.beta.kubernetes.io/x: unconfined}"),
        f"{_TEMPLATE}.annotations",
    ),
    Invalid("a label key that is none", _template('labels: {"a b": c}'), f"{_TEMPLATE}.labels"),
    Invalid("a node selector key that is none", _template('nodeSelector: {"/": c}'), f"{_TEMPLATE}.nodeSelector"),
    Invalid("a label key that is too long", _template("labels: {" + "p" * 250 + "/name: c}"), f"{_TEMPLATE}.labels"),
)

_HASH = "a" * 64

VALID_KEYS = {
    "the least that is a key": f"{{keyHash: {_HASH}, tenant: research}}",
    "every field": f"""
keyHash: {_HASH}
tenant: research
pools: [agents, other]
expiresAt: "2030-01-01T00:00:00Z"
disabled: true
""",
}

INVALID_KEYS = (
    Invalid("no hash", "tenant: research", "spec.keyHash"),
    Invalid("a hash that is too short", "{keyHash: abc, tenant: research}", "spec.keyHash"),
    Invalid("the key itself in place of its hash", f"{{keyHash: ep_{_HASH}, tenant: research}}", "spec.keyHash"),
    Invalid("no tenant", f"keyHash: {_HASH}", "spec.tenant"),
    Invalid("a tenant that is no name", f"{{keyHash: {_HASH}, tenant: Team A}}", "spec.tenant"),
    Invalid("a pool that is no name", f"{{keyHash: {_HASH}, tenant: a, pools: ['*']}}", "spec.pools[0]"),
    Invalid("an end without a time", f"{{keyHash: {_HASH}, tenant: a, expiresAt: tomorrow}}", "spec.expiresAt"),
    Invalid(
        "an end without a zone", f"{{keyHash: {_HASH}, tenant: a, expiresAt: '2030-01-01T00:00:00'}}", "spec.expiresAt"
    ),
    Invalid("a key in plain text", f"{{keyHash: {_HASH}, tenant: a, key: ep_1}}", "spec.key"),
)

# Names are metadata: the API server alone sees them.
VALID_ACCOUNTS = {
    "the least that is an account": "credentialsSecret: e2b",
    "every field": """
credentialsSecret: e2b
apiUrl: http://execpool-emulator.execpool-system:8080
plan: Custom
limits: {createsPerSecond: 2, sandboxes: 40, executionsPerMinute: 600}
headroomPercent: 0
dailySpendMicroUSD: 20000000
prices: {vcpuSecondNanoUsd: 14000, gibSecondNanoUsd: 4500}
allowedNamespaces: [agents, research]
""",
}
INVALID_ACCOUNTS = (
    Invalid("no Secret", "plan: Pro", "spec.credentialsSecret"),
    Invalid("the key in place of its Secret", "credentialsSecret: E2B_abc", "spec.credentialsSecret"),
    Invalid("a plan that is not sold", "{credentialsSecret: e2b, plan: Gold}", "spec.plan"),
    Invalid("Custom without limits", "{credentialsSecret: e2b, plan: Custom}", "spec.limits"),
    Invalid(
        "Custom with half of them", "{credentialsSecret: e2b, plan: Custom, limits: {sandboxes: 4}}", "spec.limits"
    ),
    Invalid("an address with a path", "{credentialsSecret: e2b, apiUrl: 'https://e2b.app/api'}", "spec.apiUrl"),
    Invalid("an address with a user", "{credentialsSecret: e2b, apiUrl: 'https://me@e2b.app'}", "spec.apiUrl"),
    Invalid("no scheme", "{credentialsSecret: e2b, apiUrl: api.e2b.app}", "spec.apiUrl"),
    Invalid(
        "a rate of nothing", "{credentialsSecret: e2b, limits: {createsPerSecond: 0}}", "spec.limits.createsPerSecond"
    ),
    Invalid("all of it as headroom", "{credentialsSecret: e2b, headroomPercent: 100}", "spec.headroomPercent"),
    Invalid("money as a fraction", "{credentialsSecret: e2b, dailySpendMicroUSD: 0.5}", "spec.dailySpendMicroUSD"),
    Invalid("an unknown field", "{credentialsSecret: e2b, apiKey: e2b_abc}", "spec.apiKey"),
)

VALID = {"ExecutionPool": VALID_POOLS, "ExecutionKey": VALID_KEYS, "E2BAccount": VALID_ACCOUNTS}
INVALID = {"ExecutionPool": INVALID_POOLS, "ExecutionKey": INVALID_KEYS, "E2BAccount": INVALID_ACCOUNTS}
"""By kind."""

INVALID_NAMES = {
    "a name that does not fit into a label": "p" * 64,
    "a name with a dot": "team.agents",
}
