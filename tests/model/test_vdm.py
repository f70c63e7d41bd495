"""The diffusion model against closed forms: loss terms, times, guidance, and the sampler with a perfect network."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sampler
import tiny
from scipy import special

from cspace_jax.config import DiffusionConfig
from cspace_jax.model import unet, vdm

LEARNED = vdm.Vdm.from_config(tiny.NETWORK, DiffusionConfig(), "xla")
FIXED = vdm.Vdm.from_config(
    tiny.NETWORK, DiffusionConfig(schedule="fixed_linear", gamma_min=-4.0, gamma_max=6.0), "xla"
)
LN2 = math.log(2)


def schedule(b=-5.0, w=15.0):
    """Parameters for tests that replace the network."""
    return {"network": {}, "schedule": {"b": jnp.float32(b), "w": jnp.float32(w)}}


@pytest.fixture
def initial(monkeypatch):
    """Return a function that makes a model's parameters at the start, without the network's."""
    monkeypatch.setattr(unet, "init_params", lambda *_: {})
    return lambda model: vdm.init_params(model, jax.random.key(0))


def images(batch=4, size=8, seed=0):
    return jax.random.uniform(jax.random.key(seed), (batch, size, size, 3))


@pytest.fixture
def network(monkeypatch):
    """Return a function that replaces the network by `function(z, gamma_t, c)`."""

    def replace(function):
        monkeypatch.setattr(vdm, "eps_hat", lambda model, params, z, gamma_t, c, key=None: function(z, gamma_t, c))

    return replace


@pytest.fixture
def silent(network):
    """A network whose prediction is always the noisy image, as it is at the start of training."""
    network(lambda z, gamma_t, c: z)


def noise_of(x, seed=0, signs=True):
    noise = vdm.draw_loss_noise(jax.random.key(seed), x.shape)
    # A noise of +-1 has its expected square at every pixel.
    return noise.replace(eps_0=jnp.sign(noise.eps_0)) if signs else noise


def test_initial_loss_is_the_published_one(initial, silent):
    x = images(batch=16)
    terms = vdm.loss_terms(LEARNED, initial(LEARNED), 1e-3, x, jnp.ones((16, 11)), noise_of(x))
    assert float(terms.total.mean()) == pytest.approx(4852, abs=3)
    assert float(terms.reconstruction.mean()) > 0.99 * float(terms.total.mean())


def expected_reconstruction(b, data_noise):
    return (0.5 * math.log(2 * math.pi * data_noise**2) + 0.5 * math.exp(b) / data_noise**2) / LN2


@pytest.mark.parametrize(("b", "data_noise"), [(-5.0, 1e-3), (-13.8, 1e-3), (-2.0, 0.1)])
def test_reconstruction_term_has_its_closed_form(silent, b, data_noise):
    x = images()
    terms = vdm.loss_terms(LEARNED, schedule(b), data_noise, x, jnp.zeros((len(x), 11)), noise_of(x))
    np.testing.assert_allclose(terms.reconstruction, expected_reconstruction(b, data_noise), rtol=1e-5, atol=1e-5)
    drawn = vdm.loss_terms(
        LEARNED, schedule(b), data_noise, x, jnp.zeros((len(x), 11)), noise_of(x, signs=False)
    ).reconstruction.mean()
    error = 0.5 * math.exp(b) / data_noise**2 / LN2 * math.sqrt(2 / x.size)
    assert abs(drawn - expected_reconstruction(b, data_noise)) < 4 * error


@pytest.mark.parametrize(("b", "w"), [(-5.0, 5.0), (-5.0, 10.0), (-3.0, 1.0)])
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_latent_term_has_its_closed_form(silent, b, w, level):
    x = jnp.full((2, 4, 4, 3), level)
    variance = special.expit(b + w)
    expected = 0.5 * (variance + (1 - variance) * level**2 - math.log(variance) - 1) / LN2
    terms = vdm.loss_terms(LEARNED, schedule(b, w), 1e-3, x, jnp.zeros((len(x), 11)), noise_of(x))
    np.testing.assert_allclose(terms.latent, expected, rtol=2e-5, atol=3e-7)  # cancels to 1e-5 where little is left


def test_diffusion_term_weighs_the_error_by_the_slope(network):
    network(lambda z, gamma_t, c: jnp.zeros_like(z))
    x = images()
    noise = noise_of(x)
    terms = vdm.loss_terms(
        LEARNED, schedule(-4.0, -7.0), 1e-3, x, jnp.zeros((len(x), 11)), noise
    )  # w counts by its absolute value
    expected = 0.5 * 7 * np.mean(np.asarray(noise.eps, np.float64) ** 2, (1, 2, 3)) / LN2
    np.testing.assert_allclose(terms.diffusion, expected, rtol=1e-5)


def test_diffusion_term_of_a_perfect_network_is_zero(network):
    x = images()
    noise = noise_of(x)
    alpha, sigma = (np.sqrt(special.expit(s * (-5 + 15 * np.asarray(noise.t, np.float64)))) for s in (-1, 1))
    seen = {}

    def predict(z, gamma_t, c):
        seen["gamma"] = gamma_t
        return (z - alpha[:, None, None, None] * x) / sigma[:, None, None, None]

    network(predict)
    terms = vdm.loss_terms(LEARNED, schedule(), 1e-3, x, jnp.zeros((len(x), 11)), noise)
    np.testing.assert_allclose(terms.diffusion, 0.0, atol=1e-9)
    np.testing.assert_allclose(seen["gamma"], -5 + 15 * noise.t, rtol=1e-6)
    np.testing.assert_array_equal(terms.total, terms.diffusion + terms.latent + terms.reconstruction)


def test_times_are_evenly_spaced_with_a_random_start():
    draw = jax.jit(jax.vmap(lambda key: vdm.antithetic_times(key, 8)))
    times = np.asarray(draw(jax.random.split(jax.random.key(0), 2000)))
    np.testing.assert_allclose(np.diff(times, axis=1), 1 / 8, rtol=1e-5)
    starts = times[:, 0]
    assert starts.min() >= 0 and starts.max() < 1 / 8
    quantiles = np.quantile(starts * 8, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(quantiles, [0.1, 0.5, 0.9], atol=0.05)


def test_noises_of_a_loss_are_independent():
    noise = vdm.draw_loss_noise(jax.random.key(0), (64, 8, 8, 3))
    for drawn in (noise.eps, noise.eps_0):
        assert abs(drawn.mean()) < 4 / math.sqrt(drawn.size) and abs(drawn.std() - 1) < 4 / math.sqrt(drawn.size)
    assert abs(np.corrcoef(noise.eps.ravel(), noise.eps_0.ravel())[0, 1]) < 4 / math.sqrt(noise.eps.size)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_conditioning_is_dropped_whole_and_at_the_given_rate(rate):
    c = jax.random.uniform(jax.random.key(0), (4000, 11))
    out = np.asarray(vdm.drop_conditioning(-1.0, c, jax.random.bernoulli(jax.random.key(1), rate, (len(c),))))
    dropped = (out == -1).any(1)
    assert (out[dropped] == -1).all()
    np.testing.assert_array_equal(out[~dropped], np.asarray(c)[~dropped])
    assert abs(dropped.mean() - rate) <= 4 * math.sqrt(rate * (1 - rate) / 4000)


@pytest.mark.parametrize("guidance", [None, 0.0, 1.0, 3.0])
def test_guidance_extrapolates_from_the_null_prediction(network, guidance):
    network(lambda z, gamma_t, c: z * c.sum(1)[:, None, None, None] + gamma_t[:, None, None, None])
    z, c = images(), jax.random.uniform(jax.random.key(2), (4, 11))
    ours = vdm.guided_eps(LEARNED, schedule(), z, jnp.full(4, 0.5), c, guidance)
    plain, null = z * c.sum(1)[:, None, None, None] + 0.5, z * -11.0 + 0.5
    weight = 1.0 if guidance is None else guidance
    np.testing.assert_allclose(ours, null + weight * (plain - null), rtol=1e-5, atol=1e-5)


def test_a_learned_schedule_starts_at_its_ends_and_is_trained(initial, silent):
    params = initial(LEARNED)
    assert params["schedule"].keys() == {"b", "w"}
    np.testing.assert_allclose(vdm.gamma(LEARNED, params, np.array([0.0, 0.5, 1.0])), [-5.0, 2.5, 10.0])
    x = images(batch=2)

    def loss(params):
        return vdm.loss_terms(LEARNED, params, 1e-3, x, jnp.ones((2, 11)), noise_of(x)).total.mean()

    grads = jax.grad(loss)(params)["schedule"]
    # The reconstruction term dominates: its derivative with respect to b is exp(b) / (2 noise^2 ln 2).
    assert float(grads["b"]) == pytest.approx(0.5 * math.exp(-5) / 1e-6 / LN2, rel=1e-2)
    assert 0 < abs(float(grads["w"])) < 10


def test_a_fixed_schedule_has_no_parameters(initial):
    assert initial(FIXED)["schedule"] == {}
    gamma = vdm.gamma(FIXED, {"schedule": {}}, np.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(gamma, [-4.0, -1.5, 6.0])
    alpha, sigma = vdm.alpha_sigma(gamma)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-6)
    np.testing.assert_allclose(-np.log(alpha**2 / sigma**2), gamma, rtol=1e-5)


def test_networks_time_is_scaled_by_the_initial_ends_also_when_the_schedule_has_moved(monkeypatch):
    seen = []
    monkeypatch.setattr(unet, "apply", lambda spec, params, z, t, c, key: seen.append(t) or z)
    gamma_t = vdm.gamma(LEARNED, schedule(b=-12.0, w=20.0), np.array([0.0, 1.0]))
    vdm.eps_hat(LEARNED, schedule(), images(2), gamma_t, jnp.zeros((2, 11)))
    np.testing.assert_allclose(seen[0], [(-12 + 5) / 15, (8 + 5) / 15], rtol=1e-6)


# Sampling with the perfect network for pixels that are normal with this mean and standard deviation.
MEAN, STD = 0.6, 0.2


def perfect_eps(z, gamma_t, c):
    alpha, sigma = (a[:, None, None, None] for a in vdm.alpha_sigma(gamma_t))
    return sigma * (z - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)


def moments(steps, b=-5.0, w=15.0):
    """Mean and variance of the sampler's output with the perfect network, exactly, in float64."""
    mean, var = 0.0, 1.0
    for i in range(steps):
        t, s = 1 - i / steps, 1 - (i + 1) / steps
        (at, st), (a, s_) = ((np.sqrt(special.expit(-g)), np.sqrt(special.expit(g))) for g in (b + w * t, b + w * s))
        c = 1 - np.exp(w * (s - t))
        slope = a / at * (1 - c * st * st / (at**2 * STD**2 + st**2))
        shift = a / at * c * st * st * at * MEAN / (at**2 * STD**2 + st**2)
        mean, var = slope * mean + shift, slope**2 * var + s_**2 * c
    return mean, var


def draw(steps, batch=64):
    shape = (batch, 8, 8, 3)
    key = jax.random.key(5)

    def noise(i):
        return jax.random.normal(jax.random.fold_in(key, i), shape)

    return sampler.draw(LEARNED, schedule(), jnp.zeros((batch, 11)), noise, steps)


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_sampler_has_the_exact_moments_of_its_own_steps(network, steps):
    network(perfect_eps)
    out = np.asarray(draw(steps), np.float64)
    mean, var = moments(steps)
    assert abs(out.mean() - mean) < 4 * math.sqrt(var / out.size)
    assert abs(out.var() / var - 1) < 4 * math.sqrt(2 / out.size)


def test_sampler_with_many_steps_draws_the_data_at_the_first_noise_level(network):
    network(perfect_eps)
    out = np.asarray(draw(400), np.float64)
    alpha, variance = np.sqrt(special.expit(5.0)), special.expit(-5.0)
    assert out.mean() == pytest.approx(alpha * MEAN, abs=5e-3)
    assert out.std() == pytest.approx(math.sqrt(alpha**2 * STD**2 + variance), rel=0.03)


def test_sampler_calls_its_steps_in_order_on_a_uniform_grid(network):
    seen = []
    network(lambda z, gamma_t, c: seen.append(np.asarray(gamma_t)) or jnp.zeros_like(z))
    z = images()
    for i in range(4):
        z = vdm.sample_step(LEARNED, schedule(), z, jnp.zeros((len(z), 11)), jnp.zeros_like(z), i, 4)
    np.testing.assert_allclose([g[0] for g in seen], [10.0, 6.25, 2.5, -1.25], rtol=1e-6)
    # Without predicted or added noise the image only changes its amplitude.
    np.testing.assert_allclose(z, images() * np.sqrt(special.expit(5.0) / special.expit(-10.0)), rtol=1e-4)


def test_sampler_adds_noise_at_every_step_the_last_included(network):
    network(lambda z, gamma_t, c: z)
    z = jnp.zeros((1, 8, 8, 3))
    for i in range(4):
        noise = jnp.ones_like(z)
        step = vdm.sample_step(LEARNED, schedule(), z, jnp.zeros((len(z), 11)), noise, i, 4)
        expected = math.sqrt(special.expit(-5 + 15 * (3 - i) / 4) * -math.expm1(-15 / 4))
        np.testing.assert_allclose(step, expected, rtol=1e-5)


def test_guidance_changes_samples_only_where_conditioning_matters(network):
    network(lambda z, gamma_t, c: c[:, :1, None, None] * jnp.ones_like(z))
    z, c = images(), jnp.ones((4, 11))
    plain, guided = (vdm.sample_step(LEARNED, schedule(), z, c, z, 1, 4, g) for g in (None, 2.0))
    assert np.abs(plain - guided).max() > 1e-2
    same = vdm.sample_step(LEARNED, schedule(), z, -c, z, 1, 4, 2.0)
    np.testing.assert_allclose(same, vdm.sample_step(LEARNED, schedule(), z, -c, z, 1, 4), rtol=1e-6)
