"""Which customers will leave? Fits a random forest, checks it on unseen data and names what matters."""

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

ROWS = 8_000
NAMES = ["tenure", "monthly bill", "complaints", "logins", "discount", "contract", "age", "noise"]

rng = np.random.default_rng(13)
features = rng.standard_normal((ROWS, len(NAMES)))
risk = 1.2 * features[:, 2] - 0.9 * features[:, 0] + 0.8 * features[:, 1] * features[:, 5] - 0.5 * features[:, 3]
leaves = rng.random(ROWS) < 1 / (1 + np.exp(1.0 - risk))
train_x, test_x, train_y, test_y = train_test_split(features, leaves, test_size=0.3, random_state=1)

forest = RandomForestClassifier(n_estimators=120, min_samples_leaf=5, random_state=1, n_jobs=1).fit(train_x, train_y)
line = LogisticRegression().fit(train_x, train_y)
scores = {
    "random forest": roc_auc_score(test_y, forest.predict_proba(test_x)[:, 1]),
    "logistic regression": roc_auc_score(test_y, line.predict_proba(test_x)[:, 1]),
}
for name, score in scores.items():
    print(f"{name:>20}: AUC {score:.3f}")
ranking = sorted(zip(forest.feature_importances_, NAMES), reverse=True)
print("what matters:", ", ".join(f"{name} {weight:.0%}" for weight, name in ranking[:4]))
print(f"customers who leave: {leaves.mean():.1%} of {ROWS:,}")

max(scores, key=scores.get)
