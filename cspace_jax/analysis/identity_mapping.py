"""Structured identity mapping: the analytic model of the follow-up paper (Swing-by dynamics, ICLR 2025).

A linear network learns to copy s Gaussian clusters N(mu_p e_p, diag(sigma)^2), one a concept, and is asked for the
point with all concepts at once, x = sum of mu_p e_p. What it draws is a trajectory in concept space. Its speed along
concept p is a_p = mu_p^2 / s + sigma_p^2: a second, parameter-free prediction of the order of learning.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Real
from scipy import integrate


def strengths(mu: Real[np.ndarray, " s"], sigma: Float[np.ndarray, " s"] | float) -> Float[np.ndarray, " s"]:
    """Return a_p = mu_p^2 / s + sigma_p^2 [s], the second moment of the data along each concept."""
    mu = np.asarray(mu, float)
    return mu**2 / len(mu) + np.broadcast_to(np.asarray(sigma, float), mu.shape) ** 2


def loss(weights: Float[np.ndarray, "s s"], a: Float[np.ndarray, " s"]) -> float:
    """Return the training loss ||(W - I) A^(1/2)||^2 / 2 of weights W [s, s], A = diag(a), a [s]."""
    return float(0.5 * np.sum((weights - np.eye(len(a))) ** 2 * a))


def one_layer(
    weights: Float[np.ndarray, "s s"], a: Float[np.ndarray, " s"], times: Real[np.ndarray, " t"]
) -> Float[np.ndarray, "t s s"]:
    """Return W(t) [t, s, s] of gradient flow from `weights` in closed form.

    That is I + (W(0) - I) e^(-a t), by column.
    """
    decay = np.exp(-np.asarray(times, float)[:, None] * a)
    return np.eye(len(a)) + (weights - np.eye(len(a))) * decay[:, None, :]


def two_layer_flow(weights: Float[np.ndarray, "s s"], a: Float[np.ndarray, " s"]) -> Float[np.ndarray, "s s"]:
    """Return dW/dt [s, s] of the symmetric two-layer network f(x) = U U^T x for W = U U^T.

    W A + A W - (A W^2 + W^2 A + 2 W A W) / 2 with A = diag(a): gradient flow of U at half the speed of `loss`, as
    published.
    """
    wa, squared = weights * a, weights @ weights
    return wa + wa.T - 0.5 * (a[:, None] * squared + squared * a + 2 * wa @ weights)


def two_layer(
    weights: Float[np.ndarray, "s s"], a: Float[np.ndarray, " s"], times: Real[np.ndarray, " t"]
) -> Float[np.ndarray, "t s s"]:
    """Return W [t, s, s] of the two-layer flow from a symmetric `weights` [s, s] at time 0.

    `times` [t] are increasing and non-negative.
    """
    size = len(a)
    solution = integrate.solve_ivp(
        lambda t, w: two_layer_flow(w.reshape(size, size), a).ravel(), (0.0, float(times[-1])),
        np.asarray(weights, float).ravel(), "LSODA", np.asarray(times, float), rtol=1e-9, atol=1e-12,
    )  # fmt: skip
    return solution.y.T.reshape(-1, size, size)


def small_start(size: int, width: int, scale: float, seed: int = 0) -> Float[np.ndarray, "s s"]:
    """Draw W(0) = U U^T [size, size] for U [size, width] with normal entries of standard deviation `scale`."""
    u = scale * np.random.default_rng(seed).standard_normal((size, width))
    return u @ u.T


def outputs(weights: Float[np.ndarray, "t s s"], mu: Real[np.ndarray, " s"]) -> Float[np.ndarray, "t s"]:
    """Return the network's answer to all concepts at once, as shares of the point asked for [t, s].

    That is W x / x with x = mu [s] and weights W [t, s, s].
    """
    mu = np.asarray(mu, float)
    return weights @ mu / mu


def prediction(
    signal: Real[np.ndarray, " s"], sigma: float = 0.05, scale: float = 0.05, seeds: int = 6
) -> Float[np.ndarray, "t s"]:
    """Predict the path of the unseen class through concept space [t, s] from the concepts' signals [s] alone.

    mu_p is the root of the signal, a distance between images, over the signals' root mean square. Two layers, mean of
    `outputs` over small starts; a share from 0 to 1 becomes a coordinate from 1/2, where nothing is known, to 1. The
    translation of the model to measured coordinates is ours.
    """
    mu = np.sqrt(np.asarray(signal, float) / np.mean(signal))
    a = strengths(mu, sigma)
    times = np.linspace(0.0, 12.0 / a.min(), 400)
    paths = [outputs(two_layer(small_start(len(mu), len(mu), scale, i), a, times), mu) for i in range(seeds)]
    return 0.5 + 0.5 * np.mean(paths, axis=0)


def unseen_loss(weights: Float[np.ndarray, "t s s"], mu: Real[np.ndarray, " s"]) -> Any:
    """Return the loss on the unseen combination [t].

    It is ||W x - x||^2 / 2 for weights W [t, s, s] and x = mu [s].
    """
    return 0.5 * np.sum((weights @ np.asarray(mu, float) - mu) ** 2, axis=-1)
