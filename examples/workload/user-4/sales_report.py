"""Which region and category drive revenue, and how does each month compare with the one before?"""

import numpy as np
import pandas as pd

ROWS = 750_000

rng = np.random.default_rng(99)
sales = pd.DataFrame(
    {
        "day": pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 365, ROWS), unit="D"),
        "region": rng.choice(["north", "east", "south", "west"], ROWS, p=[0.4, 0.3, 0.2, 0.1]),
        "category": rng.choice(["books", "games", "tools", "food", "toys"], ROWS),
        "units": rng.poisson(3, ROWS) + 1,
        "price": np.round(rng.lognormal(3, 0.5, ROWS), 2),
    }
)
sales["revenue"] = sales.units * sales.price
sales["month"] = sales.day.dt.month

by_group = sales.groupby(["region", "category"]).revenue.agg(["sum", "median", "count"])
top = by_group.sort_values("sum", ascending=False).head(5)
print((top / [1e6, 1, 1]).round(2).rename(columns={"sum": "million"}).to_string())

monthly = sales.groupby(["month", "region"]).revenue.sum().unstack()
print("\nchange on the month before, percent")
print(monthly.pct_change().mul(100).round(1).loc[2:5].to_string())

sales["rank"] = sales.groupby(["region", "day"]).revenue.rank(ascending=False, method="first")
best = sales[sales["rank"] <= 3].groupby("region").revenue.mean().round(2)
print("\naverage of each day's three best sales:", best.to_dict())

weeks = sales.groupby(["category", pd.Grouper(key="day", freq="W")]).revenue
steady = weeks.quantile(0.9).groupby("category").std().sort_values()
print(f"steadiest category, by its weekly 90th percentile: {steady.index[0]} ({steady.iloc[0]:.2f})")

usual = sales.groupby(["region", "category", "month"]).revenue.transform("median")
print(f"sales above three times the usual: {(sales.revenue > 3 * usual).mean():.2%}")

baskets = pd.qcut(sales.revenue, 10, labels=False)
share = sales.revenue.groupby(baskets).sum() / sales.revenue.sum()
print(f"the top tenth of sales brings {share.iloc[-1]:.1%} of revenue, the bottom half {share.iloc[:5].sum():.1%}")

top.index[0]
