import numpy as np
from sklearn.linear_model import LogisticRegression

from attrition.modelling import calibration, metrics, selection
from attrition.monitoring import updating

EFFECTS = np.array([0.8, -0.6, 0.5, 0.0, 0.0])
WEIGHTED, RECENT = selection.OLDER_WEIGHTED, selection.RECENT_ROWS


def draw(n, rng, *, effects=EFFECTS, level=-1.5):
    """Features, and outcomes with these effects on their log-odds."""
    features = rng.standard_normal((n, len(EFFECTS)))
    return features, (rng.random(n) < metrics.expit(features @ effects + level)).astype(float)


def fit(features, outcome, weight=None):
    return LogisticRegression(C=1.0).fit(features, outcome, weight)


def choose(n, seed, *, deliveries=2, **change):
    """Draw 3,000 older rows for the champion and n recent ones, then choose an update."""
    rng = np.random.default_rng(seed)
    older, recent = draw(3000, rng), draw(n, rng, **change)
    features, outcome = recent
    parts = np.array_split(np.arange(n), 5)
    folds = [(np.setdiff1d(np.arange(n), test), test) for test in parts]

    def refit(weight):
        scores = np.empty(n)
        for train, test in folds:
            rows = np.vstack([older[0], features[train]])
            outcomes = np.r_[older[1], outcome[train]]
            weights = np.r_[np.full(3000, weight), np.ones(len(train))]
            model = fit(rows[weights > 0], outcomes[weights > 0], weights[weights > 0])
            scores[test] = model.decision_function(features[test])
        return calibration.cross_calibrate(calibration.SIGMOID, scores, outcome, folds)

    champion = fit(*older)
    update = updating.choose_update(
        champion.decision_function(features),
        outcome,
        folds=folds,
        deliveries=deliveries,
        refits={WEIGHTED: lambda: refit(0.1), RECENT: lambda: refit(0.0)},
    )
    return update, champion


def shares(runs, n, **change):
    names = [choose(n, seed, **change)[0].name for seed in range(runs)]
    return {name: names.count(name) / runs for name in set(names)}
