"""Does the redesigned checkout convert better, by a permutation test that assumes nothing about distributions?"""

import numpy as np

VISITORS, PERMUTATIONS = 12_000, 6_000

rng = np.random.default_rng(8)
group = rng.permutation(np.repeat([0, 1], VISITORS // 2))
converted = rng.random(VISITORS) < np.where(group == 1, 0.112, 0.100)
revenue = np.where(converted, rng.gamma(2.0, 30.0, VISITORS), 0.0)


def difference(values: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the treated minus mean of the others."""
    treated = labels == 1
    return float(values[treated].mean() - values[~treated].mean())


def p_value(values: np.ndarray) -> tuple[float, float]:
    """Observed difference, and how often chance alone gives one as large."""
    observed = difference(values, group)
    chance = np.array([difference(values, rng.permutation(group)) for _ in range(PERMUTATIONS)])
    return observed, float((np.abs(chance) >= abs(observed)).mean())


results = {"conversion": p_value(converted.astype(float)), "revenue per visitor": p_value(revenue)}
for name, (observed, p) in results.items():
    print(f"{name:>20}: {observed:+.4f}, p = {p:.4f}, {'significant' if p < 0.05 else 'not significant'} at 5 %")
print(f"visitors: {VISITORS:,}, permutations: {PERMUTATIONS:,} each")

{name: round(p, 4) for name, (_, p) in results.items()}
