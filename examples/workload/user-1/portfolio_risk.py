"""What is the ten-day value at risk of this portfolio when its assets have fat tails?"""

import numpy as np

ASSETS, DAYS, SCENARIOS, BATCHES = 25, 10, 2_000, 200

rng = np.random.default_rng(11)
loadings = rng.normal(0, 0.01, (ASSETS, 4))
covariance = loadings @ loadings.T + np.diag(rng.uniform(0.00005, 0.0002, ASSETS))
factor = np.linalg.cholesky(covariance)
weights = rng.dirichlet(np.ones(ASSETS))
freedom = 5


def scenario_losses() -> np.ndarray:
    """Losses of the portfolio over ten days, Student-t distributed with a common shock per day."""
    normal = rng.standard_normal((SCENARIOS, DAYS, ASSETS)) @ factor.T
    shock = np.sqrt((freedom - 2) / rng.chisquare(freedom, (SCENARIOS, DAYS, 1)))
    growth = np.prod(1 + normal * shock, axis=1)
    return 1 - growth @ weights


losses = np.concatenate([scenario_losses() for _ in range(BATCHES)])
tail = {level: np.quantile(losses, level) for level in (0.95, 0.99, 0.999)}
for level, value in tail.items():
    shortfall = losses[losses >= value].mean()
    print(f"{level:.1%} value at risk {value:7.3%}   expected shortfall {shortfall:7.3%}")
print(f"diversification: top five assets carry {np.sort(weights)[-5:].sum():.1%} of the money")

round(tail[0.99], 4)
