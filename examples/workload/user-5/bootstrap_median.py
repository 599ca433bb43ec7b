"""How sure are we of the median response time, and is the new release really faster?"""

import numpy as np

SAMPLES, RESAMPLES, BATCH = 1_500, 60_000, 1_000

rng = np.random.default_rng(21)
before = rng.lognormal(mean=4.6, sigma=0.55, size=SAMPLES)
after = rng.lognormal(mean=4.56, sigma=0.55, size=SAMPLES)


def bootstrap(values: np.ndarray) -> np.ndarray:
    """Medians of resamples, in batches to keep memory small."""
    medians = []
    for _ in range(RESAMPLES // BATCH):
        picked = values[rng.integers(0, SAMPLES, (BATCH, SAMPLES))]
        medians.append(np.median(picked, axis=1))
    return np.concatenate(medians)


medians = {"before": bootstrap(before), "after": bootstrap(after)}
for name, values in medians.items():
    low, high = np.quantile(values, [0.025, 0.975])
    print(f"{name:>6}: median {values.mean():6.2f} ms, 95 % between {low:6.2f} and {high:6.2f}")
gain = medians["before"] - medians["after"]
low, high = np.quantile(gain, [0.025, 0.975])
print(f"gain:   {gain.mean():.2f} ms, 95 % between {low:.2f} and {high:.2f}")
verdict = "faster" if low > 0 else "not proven faster"
print(f"in {np.mean(gain > 0):.1%} of the resamples the new release wins: {verdict}")

verdict
