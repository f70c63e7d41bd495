"""The identity mapping: closed forms against gradient flow that is integrated numerically."""

import numpy as np

from cspace_jax.analysis import identity_mapping

# Structured identity mapping.

MU, SIGMA = np.array([1.0, 2.0]), 0.05
A = identity_mapping.strengths(MU, SIGMA)


def test_strengths_by_hand():
    np.testing.assert_allclose(A, [0.5 + 0.0025, 2.0 + 0.0025])


def numeric_flow(start, gradient, times):
    from scipy import integrate

    found = integrate.solve_ivp(
        lambda t, w: -gradient(w), (0, times[-1]), start.ravel(), "DOP853", times, rtol=1e-11, atol=1e-12
    )
    return found.y.T.reshape(len(times), *start.shape)


def test_one_layer_closed_form_is_gradient_flow():
    start, times = np.array([[0.1, -0.2], [0.05, 0.0]]), np.linspace(0, 4, 9)
    expected = numeric_flow(start, lambda w: ((w.reshape(2, 2) - np.eye(2)) * A).ravel(), times)
    np.testing.assert_allclose(identity_mapping.one_layer(start, A, times), expected, atol=1e-6)


def test_two_layer_flow_is_gradient_flow_of_the_factors():
    u = 0.3 * np.random.default_rng(2).standard_normal((2, 4))
    times = np.linspace(0, 3, 7)

    def gradient(flat):
        u = flat.reshape(2, 4)
        error = (u @ u.T - np.eye(2)) * A  # d loss / d W
        return 0.5 * ((error + error.T) @ u).ravel()

    factors = numeric_flow(u, gradient, times)
    expected = np.einsum("tij,tkj->tik", factors, factors)
    np.testing.assert_allclose(identity_mapping.two_layer(u @ u.T, A, times), expected, atol=1e-6)


def test_entry_form_of_the_two_layer_flow():
    a = np.array([0.4, 1.1, 2.0])
    w = identity_mapping.small_start(3, 5, 0.4, seed=3)
    expected = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            inner = w[i, i] * (3 * a[i] + a[j]) + (w[j, j] * (3 * a[j] + a[i]) if i != j else 0)
            rest = sum(w[k, i] * w[k, j] * (a[i] + a[j] + 2 * a[k]) for k in range(3) if k not in (i, j))
            expected[i, j] = w[i, j] * (a[i] + a[j]) - 0.5 * w[i, j] * inner - 0.5 * rest
    np.testing.assert_allclose(identity_mapping.two_layer_flow(w, a), expected, atol=1e-12)


def test_the_stronger_concept_is_learned_first_and_the_unseen_loss_swings_by():
    times = np.linspace(0, 40, 4001)
    shares, losses = [], []
    for seed in range(20):
        path = identity_mapping.two_layer(identity_mapping.small_start(2, 2, 0.05, seed), A, times)
        shares.append(identity_mapping.outputs(path, MU))
        losses.append(identity_mapping.unseen_loss(path, MU))
    reached = [[int(np.argmax(share[:, p] > 0.8)) for p in (0, 1)] for share in shares]
    assert all(strong < weak for weak, strong in reached)
    rises = [(loss - np.minimum.accumulate(loss)).max() for loss in losses]
    assert sum(rise > 0.02 for rise in rises) >= 4  # non-monotone, where the start mixes the concepts with one sign
    assert all(loss[-1] < 1e-3 for loss in losses)


def test_identity_mapping_learns_the_stronger_signal_first():
    path = identity_mapping.prediction(np.array([0.02, 0.1]))
    np.testing.assert_allclose(path[0], 0.5, atol=0.01)
    np.testing.assert_allclose(path[-1], 1.0, atol=0.01)
    assert path[:, 1].mean() > path[:, 0].mean() + 0.05
