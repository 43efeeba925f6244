"""Answers to the exercises of chapter 01: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def delta(w, x, y, lr):
    return w + lr * (y - w @ x) * x


def in_place(w, x, y, lr):
    w += lr * (y - w @ x) * x
    return w


def gradient(w, X, y):
    return -X.T @ (y - X @ w) / len(y)


def largest(X, count=None):
    return np.linalg.eigvalsh(X.T @ X / (count or len(X)))[-1]


def predict(z, p, lr, eps, power=1.0):
    w, out = np.zeros(p), []
    for n in range(p, len(z)):
        x = z[n - p : n]
        out.append(w @ x)
        w = w + lr * (z[n] - w @ x) * x / ((x @ x) ** power + eps)
    return np.array(out)


def too_late(z, p, lr, eps):
    w, out = np.zeros(p), []
    for n in range(p, len(z)):
        x = z[n - p : n]
        w = w + lr * (z[n] - w @ x) * x / (x @ x + eps)
        out.append(w @ x)
    return np.array(out)


def plain(z, p, lr, eps):
    w, out = np.zeros(p), []
    for n in range(p, len(z)):
        x = z[n - p : n]
        out.append(w @ x)
        w = delta(w, x, z[n], lr)
    return np.array(out)


RIGHT = {
    "1.1": delta,
    "1.2": gradient,
    "1.3": lambda X: 2 / largest(X),
    "1.4": "b",
    "1.5": predict,
    "1.6": "c",
}

WRONG = [
    ("1.1", lambda w, x, y, lr: w + lr * y * x, "Hebb's rule"),
    ("1.1", lambda w, x, y, lr: w + lr * (y - float(w @ x > 0)) * x, "That is the perceptron"),
    ("1.1", lambda w, x, y, lr: delta(w, x, y, 1.0), "lr is missing"),
    ("1.1", lambda w, x, y, lr: delta(w, x, y, -lr), "sign of the error"),
    ("1.1", lambda w, x, y, lr: w + lr * (y - w @ x), "multiply by x"),
    ("1.1", lambda w, x, y, lr: delta(w, x, y, lr) - w, "w plus that"),
    ("1.1", lambda w, x, y, lr: delta(w, x, y, lr)[:2], "should have shape (3,)"),
    ("1.1", in_place, "You changed the w"),
    ("1.2", lambda w, X, y: 5 * gradient(w, X, y), "asks for the mean"),
    ("1.2", lambda w, X, y: -gradient(w, X, y), "turn the sign"),
    ("1.2", lambda w, X, y: -5 * gradient(w, X, y), "sum over the examples, and its sign"),
    ("1.2", lambda w, X, y: 2 * gradient(w, X, y), "cancels the 2"),
    ("1.2", lambda w, X, y: gradient(w, X, 0 * y), "labels are missing"),
    ("1.2", lambda w, X, y: X @ (y - X @ w), "raised ValueError"),
    ("1.3", lambda X: 1 / largest(X), "twice as much is still stable"),
    ("1.3", lambda X: 2 / largest(X, 1), "number of examples"),
    ("1.3", lambda X: 2 / np.linalg.eigvalsh(X.T @ X / len(X))[0], "smallest eigenvalue"),
    ("1.3", lambda X: 2 / np.linalg.svd(X)[1][0], "singular value"),
    ("1.3", lambda X: 2 / np.trace(X.T @ X / len(X)), "trace of R"),
    ("1.3", largest, "largest eigenvalue itself"),
    ("1.3", lambda X: np.linalg.eigvalsh(X.T @ X), "should have shape ()"),
    ("1.4", "a", "needs a label"),
    ("1.4", "c", "needs a target"),
    ("1.4", "d", "no error at all"),
    ("1.4", "Hebb", "one letter"),
    ("1.5", too_late, "after the correction"),
    ("1.5", lambda z, p, lr, eps: z[p:] - predict(z, p, lr, eps), "You returned the errors;"),
    ("1.5", lambda z, p, lr, eps: predict(z, p, lr, eps) - z[p:], "errors with their sign turned"),
    ("1.5", plain, "isn't normalized"),
    ("1.5", lambda z, p, lr, eps: predict(z, p, lr, eps, 0.5), "squared length"),
    ("1.5", lambda z, p, lr, eps: predict(z, p, lr, 0.0), "eps is missing"),
    ("1.5", lambda z, p, lr, eps: z[p - 1 : -1], "repeated the previous value"),
    ("1.5", lambda z, p, lr, eps: predict(z, p, lr, eps)[:-1], "should have shape (27,)"),
    ("1.6", "a", "which number is smaller"),
    ("1.6", "b", "its number is the largest"),
    ("1.6", "d", "is that error smaller"),
    ("1.6", "online", "one letter"),
]
