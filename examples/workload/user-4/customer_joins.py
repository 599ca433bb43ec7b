"""Which customer segments return goods most often, once orders, items and returns are joined?"""

import numpy as np
import pandas as pd

CUSTOMERS, ORDERS, ITEMS = 80_000, 600_000, 1_600_000

rng = np.random.default_rng(5)
customers = pd.DataFrame(
    {
        "customer": np.arange(CUSTOMERS),
        "segment": rng.choice(["new", "regular", "loyal"], CUSTOMERS, p=[0.5, 0.35, 0.15]),
        "country": rng.choice(["DE", "FR", "PL", "SE", "IT"], CUSTOMERS),
    }
)
orders = pd.DataFrame({"order": np.arange(ORDERS), "customer": rng.integers(0, CUSTOMERS, ORDERS)})
items = pd.DataFrame(
    {"item": np.arange(ITEMS), "order": rng.integers(0, ORDERS, ITEMS), "price": np.round(rng.gamma(2, 20, ITEMS), 2)}
)
returned = pd.DataFrame({"item": rng.choice(ITEMS, ITEMS // 9, replace=False), "returned": True})

joined = (
    items.merge(returned, on="item", how="left")
    .merge(orders, on="order", validate="many_to_one")
    .merge(customers, on="customer", validate="many_to_one")
)
joined["returned"] = joined.returned.notna()

summary = joined.groupby(["segment", "country"]).agg(
    items=("item", "size"), customers=("customer", "nunique"), spent=("price", "sum"), returns=("returned", "mean")
)
summary["per_customer"] = summary.spent / summary.customers
print(summary.sort_values("returns", ascending=False).head(6).round(4).to_string())

baskets = joined.groupby("order").price.sum()
print(f"\nbasket: median {baskets.median():.2f}, 90th percentile {baskets.quantile(0.9):.2f}")
joined["place"] = joined.groupby("customer").price.rank(ascending=False, method="first")
dearest = joined[joined.place == 1].groupby("segment").returned.mean()
cheaper = joined[joined.place > 1].groupby("segment").returned.mean()
print("returned, each customer's dearest item against the rest:", (dearest - cheaper).round(4).to_dict())
worst = summary.returns.idxmax()
print(f"most returns: {worst[0]} customers in {worst[1]}, {summary.returns.max():.2%}")

worst
