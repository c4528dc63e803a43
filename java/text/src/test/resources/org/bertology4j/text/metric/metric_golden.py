#!/usr/bin/env python3
"""Writes golden.json beside this script: metrics as scikit-learn 1.9.1 and SciPy 1.17.1 compute them."""

import json
import math
import pathlib
import warnings

import numpy
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, mean_squared_error

warnings.simplefilter("ignore")


def classes(name: str, predicted: list[int], actual: list[int]) -> dict:
    metrics = {"acc": accuracy_score(actual, predicted), "mcc": matthews_corrcoef(actual, predicted)}
    if max(predicted + actual) <= 1:
        metrics["f1"] = f1_score(actual, predicted)
        metrics["acc_and_f1"] = (metrics["acc"] + metrics["f1"]) / 2
    return {"name": name, "predicted": predicted, "actual": actual, "metrics": {k: float(v) for k, v in metrics.items()}}


def numbers(name: str, predicted: list[float], actual: list[float]) -> dict:
    metrics = {
        "pearson": pearsonr(predicted, actual)[0],
        "spearmanr": spearmanr(predicted, actual)[0],
        "mse": mean_squared_error(actual, predicted),
    }
    metrics["corr"] = (metrics["pearson"] + metrics["spearmanr"]) / 2
    metrics = {k: "NaN" if math.isnan(v) else float(v) for k, v in metrics.items()}
    return {"name": name, "predicted": predicted, "actual": actual, "metrics": metrics}


def main() -> None:
    random = numpy.random.default_rng(7)
    actual = random.integers(0, 2, 200)
    noisy = numpy.where(random.random(200) < 0.2, 1 - actual, actual)
    three = random.integers(0, 3, 150)
    guessed = numpy.where(random.random(150) < 0.4, random.integers(0, 3, 150), three)
    rare = (random.random(100) < 0.05).astype(int)
    cases = [
        classes("binary", noisy.tolist(), actual.tolist()),
        classes("three classes", guessed.tolist(), three.tolist()),
        classes("rare positives", rare.tolist(), (random.random(100) < 0.1).astype(int).tolist()),
        classes("all right", [0, 1, 1, 0], [0, 1, 1, 0]),
        classes("all wrong", [1, 0, 0, 1], [0, 1, 1, 0]),
        classes("constant prediction 0", [0, 0, 0, 0], [0, 1, 1, 0]),
        classes("constant prediction 1", [1, 1, 1, 1], [0, 1, 1, 0]),
        classes("constant labels", [0, 1, 1, 0], [1, 1, 1, 1]),
        classes("no positives", [0, 0, 0], [0, 0, 0]),
        classes("one example", [1], [1]),
        classes("a class nobody predicts", [0, 0, 1, 1, 0], [0, 2, 1, 2, 0]),
    ]
    scores = random.random(120) * 5
    close = scores + random.normal(0, 0.7, 120)
    ties = numpy.round(scores)
    cases += [
        numbers("similar", close.tolist(), scores.tolist()),
        numbers("ties", numpy.round(close).tolist(), ties.tolist()),
        numbers("unrelated", random.normal(0, 1, 500).tolist(), random.normal(0, 1, 500).tolist()),
        numbers("same", [1.0, 2.0, 3.5], [1.0, 2.0, 3.5]),
        numbers("opposite", [1.0, 2.0, 3.5], [-1.0, -2.0, -3.5]),
        numbers("far from zero", (1e6 + close).tolist(), (1e6 + scores).tolist()),
        numbers("nearly unrelated", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [3e-9, 1.0, -1.0, 0.0, -1.0, 1.0, 1e-9]),
        numbers("signed zeros", [0.0, -0.0, 1.0, -0.0], [-0.0, 0.0, 2.0, 1.0]),
        numbers("two examples", [0.25, 0.5], [3.0, 1.0]),
        numbers("constant prediction", [2.5, 2.5, 2.5, 2.5], [1.0, 2.0, 3.0, 4.0]),
        numbers("constant, and no binary fraction", [0.1] * 10, [float(i) for i in range(10)]),
        numbers("constant targets", [1.0, 2.0, 3.0, 4.0], [2.5, 2.5, 2.5, 2.5]),
    ]
    text = "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n"
    (pathlib.Path(__file__).parent / "golden.json").write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
