"""Checks for the exercises of chapter 01."""

from collections.abc import Callable

import numpy as np

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close, expect_shape


@exercise("1.1", "A delta step")
def delta_step(answer: Callable) -> str:
    w, x, lr = np.array([0.5, 1.0, 2.0]), np.array([1.0, 2.0, -0.5]), 0.3
    kept, a = w.copy(), float(w @ x)
    for y in (0.7, -1.0):
        got = answer(w, x, y, lr)
        if not np.array_equal(w, kept):
            raise Wrong("You changed the w that was passed in; return a new array (w + ..., not w += ...).")
        expect_close(
            got,
            w + lr * (y - a) * x,
            "the new weights",
            mistakes={
                "That is Hebb's rule: subtract the sum w @ x from the label.": w + lr * y * x,
                "That is the perceptron: no threshold here, the error is y - w @ x.": w + lr * (y - (a > 0)) * x,
                "The rate lr is missing.": w + (y - a) * x,
                "The sign of the error is turned: it is the label minus the sum.": w - lr * (y - a) * x,
                "The error moves the weights along x; multiply by x.": w + lr * (y - a),
                "You returned the change. The new weights are w plus that.": lr * (y - a) * x,
            },
        )
    return "One scalar, the error, times the input: the weights only ever move along x."


@exercise("1.2", "The gradient over all examples")
def gradient(answer: Callable) -> str:
    rng = np.random.default_rng(1)
    w, X, y = rng.normal(size=3), rng.normal(size=(5, 3)), rng.normal(size=5)
    want = -X.T @ (y - X @ w) / 5
    expect_close(
        answer(w, X, y),
        want,
        "the gradient",
        mistakes={
            "That is the sum over the examples; the task asks for the mean.": 5 * want,
            "That is the direction of the step. The gradient points uphill: turn the sign.": -want,
            "That is the sum over the examples, and its sign is turned.": -5 * want,
            "Twice too large: the factor 1/2 cancels the 2 of the square.": 2 * want,
            "The labels are missing: the error is y - X @ w.": X.T @ (X @ w) / 5,
        },
    )
    return "Set it to zero and you have the normal equations of least squares."


@exercise("1.3", "The largest stable rate")
def largest_rate(answer: Callable) -> str:
    X = np.random.default_rng(2).normal(size=(7, 3)) * np.array([1.0, 2.0, 0.5])
    small, _, large = np.linalg.eigvalsh(X.T @ X / 7)
    expect_close(
        answer(X),
        2 / large,
        "the rate",
        mistakes={
            "That is 1 / lambda_max: the fastest for this direction, but twice as much is still stable.": 1 / large,
            "R is the mean of x x^T: divide X.T @ X by the number of examples.": 2 / (7 * large),
            "You took the smallest eigenvalue; the steepest direction breaks first.": 2 / small,
            "You took a singular value of X; the eigenvalues of R are their squares over T.": 2 / np.sqrt(7 * large),
            "You took the trace of R: safe, but the limit is set by its largest eigenvalue.": 2 / np.trace(X.T @ X / 7),
            "That is the largest eigenvalue itself. The limit is 2 divided by it.": large,
        },
    )
    return "At this rate the steepest direction only mirrors itself from step to step; below it, it shrinks."


@exercise("1.4", "Which rule needs no target?")
def no_target(answer: str) -> str:
    sentences = {
        "a": "The perceptron needs a label: without it nobody knows that an answer was wrong.",
        "c": "The delta rule needs a target: its error is y - w @ x.",
        "d": "One of them contains no error at all: look at (1.2).",
    }
    expect_choice(answer, "b", sentences)
    return "Only (1.2) works with activities alone. The price: nothing tells it when to stop."


def _predictions(z, p, lr, eps, *, after=False, turned=False, norm=True, square=True) -> np.ndarray:
    w, predictions = np.zeros(p), []
    for n in range(p, len(z)):
        x = z[n - p : n][::-1] if turned else z[n - p : n]
        before = w @ x
        size = x @ x if square else np.sqrt(x @ x)
        w = w + lr * (z[n] - before) * x / (size + eps if norm else 1.0)
        predictions.append(w @ x if after else before)
    return np.array(predictions)


@exercise("1.5", "Predict the next value")
def predictions(answer: Callable) -> str:
    z, p, lr, eps = np.sin(0.7 * np.arange(30)) + 0.3 * np.cos(2.1 * np.arange(30)), 3, 0.4, 0.05
    want = _predictions(z, p, lr, eps)
    got = expect_shape(answer(z.copy(), p, lr, eps), want.shape, "the predictions")
    expect_close(
        got,
        want,
        "the predictions",
        mistakes={
            "You predicted after the correction: then the answer was already seen.": _predictions(
                z, p, lr, eps, after=True
            ),
            "You returned the errors; the task asks for the predictions.": z[p:] - want,
            "You returned the errors with their sign turned.": want - z[p:],
            "The step isn't normalized: divide by x @ x + eps.": _predictions(z, p, lr, eps, norm=False),
            "You divided by the length of x; it is the squared length.": _predictions(z, p, lr, eps, square=False),
            "eps is missing in the denominator.": _predictions(z, p, lr, 0.0),
            "You repeated the previous value; predict with w @ x.": z[p - 1 : -1],
        },
    )
    return "No label, and yet an error at every step: the series itself provides the target."


@exercise("1.6", "A quieter world")
def quieter_world(answer: str) -> str:
    sentences = {
        "a": "Compare online with repeat after the change: which number is smaller?",
        "b": "Compare the frozen predictor with the other two after the change: its number is the largest.",
        "d": "Run it on the flower lines alone, from zero weights: is that error smaller than after the change?",
    }
    expect_choice(answer, "c", sentences)
    return "Repeating happens to fit the new world. The old weights even helped: from zero it does worse."
