"""What is an Asian call option worth, and how sure can we be?"""

import numpy as np

SPOT, STRIKE, RATE, VOLATILITY, YEARS = 100.0, 105.0, 0.03, 0.25, 1.0
STEPS, BATCH, BATCHES = 252, 10_000, 60

rng = np.random.default_rng(7)
dt = YEARS / STEPS
drift = (RATE - 0.5 * VOLATILITY**2) * dt


def batch_mean() -> float:
    """Average discounted payoff of one batch of price paths."""
    steps = drift + VOLATILITY * np.sqrt(dt) * rng.standard_normal((BATCH, STEPS))
    paths = SPOT * np.exp(np.cumsum(steps, axis=1))
    payoff = np.maximum(paths.mean(axis=1) - STRIKE, 0)
    return float(np.exp(-RATE * YEARS) * payoff.mean())


means = np.array([batch_mean() for _ in range(BATCHES)])
error = means.std(ddof=1) / np.sqrt(BATCHES)
print(f"paths:      {BATCH * BATCHES:,} of {STEPS} steps")
print(f"price:      {means.mean():.4f}")
print(f"95 % range: {means.mean() - 1.96 * error:.4f} to {means.mean() + 1.96 * error:.4f}")

round(means.mean(), 3)
