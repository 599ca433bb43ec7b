"""Which pages of a synthetic web matter most, and how much does the answer depend on the damping?"""

import numpy as np
from scipy import sparse

SITES, PAGES_PER_SITE, LINKS = 400, 60, 300_000
PAGES = SITES * PAGES_PER_SITE

# Sites stand in a ring: a page links within its own site, now and then to the next one. So attention travels slowly.
rng = np.random.default_rng(3)
source = rng.integers(0, PAGES, LINKS)
hop = rng.choice([-1, 0, 1], LINKS, p=[0.02, 0.95, 0.03])
page = np.minimum(rng.geometric(0.06, LINKS) - 1, PAGES_PER_SITE - 1)
target = (source // PAGES_PER_SITE + hop) % SITES * PAGES_PER_SITE + page
links = sparse.csr_matrix((np.ones(LINKS), (target, source)), shape=(PAGES, PAGES))
out_degree = np.asarray(links.sum(axis=0)).ravel()
transition = links @ sparse.diags(1 / np.maximum(out_degree, 1))
dangling = out_degree == 0


def page_rank(damping: float) -> tuple[np.ndarray, int]:
    """Power iteration until nothing moves; returns the ranks and how many steps it took."""
    rank = np.full(PAGES, 1 / PAGES)
    for step in range(1, 20_000):
        following = damping * (transition @ rank + rank[dangling].sum() / PAGES) + (1 - damping) / PAGES
        if np.abs(following - rank).sum() < 1e-10:
            break
        rank = following
    return following, step


winners = {}
for damping in (0.5, 0.85, 0.95, 0.99, 0.998):
    rank, steps = page_rank(damping)
    winners[damping] = {int(page) for page in np.argsort(rank)[::-1][:100]}
    print(f"damping {damping:5.3f}: {steps:5d} steps, top page {rank.argmax():5d} with {rank.max():.5f}")

shared = len(winners[0.5] & winners[0.998])
print(f"pages in the top hundred at both ends: {shared}")

shared
