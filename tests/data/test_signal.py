"""Concept signals against the reference's printed distances, closed forms and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cspace_jax import rng
from cspace_jax.analysis.levels import normalise
from cspace_jax.config import DataConfig
from cspace_jax.config.schema import CONCEPTS
from cspace_jax.config.setting import Setting
from cspace_jax.data import rendering, signal
from cspace_jax.data.concepts import ConceptVector, class_ranges, classes
from cspace_jax.data.renderer import Renderer

DATA = Renderer(DataConfig())
COARSE = Renderer(DataConfig(image_size=16))
KEY = rng.stream(rng.run_key(0), "signal")

smooth_render = jax.jit(signal.smooth_render, static_argnames=("image_size", "blur"))
jacobian = jax.jit(signal.jacobian, static_argnames=("image_size", "blur"))
jacobian_norms = jax.jit(signal.jacobian_norms, static_argnames=("image_size", "blur"))
render = jax.jit(rendering.render, static_argnames=("image_size", "blur"))
paired_items = jax.jit(signal.paired_items, static_argnames=("source", "n", "at_mean"))

# sep_size: mean squared blurred mask of the large and of the small circle, mean squared difference of the two masks.
MASK_MOMENTS = {
    0.1: (0.15786, 0.09678, 0.02726),
    0.2: (0.19427, 0.07165, 0.08641),
    0.233: (0.20775, 0.06434, 0.10857),
    0.266: (0.22057, 0.05755, 0.12974),
    0.3: (0.23460, 0.05055, 0.15258),
    0.333: (0.24851, 0.04428, 0.17458),
    0.35: (0.25579, 0.04123, 0.18583),
    0.366: (0.26290, 0.03846, 0.19658),
    0.4: (0.27783, 0.03318, 0.21851),
}
PRINTED = {
    (0.2, 0.4): {(0, 1): 0.04297328, (0, 2): 0.00740884, (0, 3): 0.04420659, (1, 3): 0.00088467},
    (0.8, 0.2): {(0, 1): 0.03686677, (0, 2): 0.0828904, (0, 3): 0.07516428, (1, 3): 0.0305714},
}


def published_draws(n: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centres [2, n] and noise [n, 32, 32, 3] as the reference draws them: NumPy's old generator, seed 42."""
    generator = np.random.RandomState(42)
    x, y = generator.uniform(-0.5, 0.5, n), generator.uniform(-0.5, 0.5, n)
    noise = []
    for _ in range(n):
        noise.append(generator.normal(0, 1e-3, (32, 32, 3)))
        generator.normal(size=9)
    return x, y, np.stack(noise)


def published_vector(klass: int, sep_col: float, sep_size: float, n: int = 128) -> ConceptVector:
    x, y, _ = published_draws(n)
    ranges = class_ranges(sep_col, sep_size, 0.2)
    color_bit, size_bit = classes(("color", "size")).bits[klass]
    return ConceptVector(
        shape=jnp.zeros(n, jnp.int32),
        x=jnp.asarray(x, jnp.float32),
        y=jnp.asarray(y, jnp.float32),
        color=jnp.broadcast_to(ranges.mean["color"][color_bit], (n, 3)),
        size=jnp.broadcast_to(ranges.mean["size"][size_bit], (n,)),
        bg_color=jnp.full((n, 3), 0.9),
    )


def white_disks(cv: ConceptVector) -> jax.Array:
    """Render white objects on black, which shows the blurred mask."""
    return render(cv.replace(color=jnp.ones_like(cv.color), bg_color=jnp.zeros_like(cv.color)), 32, 1.0)


def one_vector(shape: int = 0) -> ConceptVector:
    return ConceptVector(
        shape=jnp.asarray(shape),
        x=jnp.asarray(0.13),
        y=jnp.asarray(-0.21),
        color=jnp.array([0.6, 0.4, 0.3]),
        size=jnp.asarray(0.5),
        bg_color=jnp.array([0.9, 0.85, 0.95]),
    )


@pytest.mark.parametrize("seps", PRINTED)
def test_distances_equal_the_printed_matrices(seps):
    _, _, noise = published_draws()
    clean = jnp.stack([render(published_vector(k, *seps), 32, 1.0) for k in range(4)])
    distances = signal.distance_matrix(jnp.clip(clean + jnp.asarray(noise, jnp.float32), 0, 1))
    for pair, expected in PRINTED[seps].items():
        np.testing.assert_allclose(distances[pair], expected, rtol=1e-5)
    np.testing.assert_allclose([distances[2, 3], distances[1, 2]], [distances[0, 1], distances[0, 3]], rtol=2e-5)
    np.testing.assert_allclose(np.diag(distances), 0, atol=1e-12)
    np.testing.assert_allclose(distances, distances.T, rtol=1e-6)


@pytest.mark.parametrize("sep_size", MASK_MOMENTS)
def test_mask_moments_equal_the_table(sep_size):
    masks = [white_disks(published_vector(k, 0.2, sep_size))[..., 0] for k in (0, 1)]
    moments = [jnp.mean(masks[0] ** 2), jnp.mean(masks[1] ** 2), jnp.mean((masks[0] - masks[1]) ** 2)]
    np.testing.assert_allclose(moments, MASK_MOMENTS[sep_size], atol=1.1e-5)


def test_pixel_signal_has_its_closed_form():
    seps = jnp.array([[0.2, 0.4], [0.8, 0.2], [0.5, 0.3]])

    @jax.jit
    @jax.vmap
    def distances(sep_col, sep_size):
        return signal.pixel_distances(DATA, Setting(sep_col=sep_col, sep_size=sep_size), KEY, n=256)

    for (sep_col, sep_size), matrix in zip(seps.tolist(), distances(*seps.T), strict=True):
        large, small, difference = MASK_MOMENTS[round(sep_size, 3)]
        size = difference * ((0.4 - sep_col / 2) ** 2 + 2 * (0.4 + sep_col / 2) ** 2) / 3
        color = 2 / 3 * sep_col**2
        trained = signal.concept_distances(DATA.classes, matrix)
        everywhere = signal.concept_distances(DATA.classes, matrix, trained_only=False)
        np.testing.assert_allclose(trained, [color * large, size], rtol=0.02)
        np.testing.assert_allclose(everywhere, [color * (large + small) / 2, size], rtol=0.02)


def test_concepts_are_averaged_over_the_right_pairs():
    distances = np.arange(16.0).reshape(4, 4)
    distances = jnp.asarray(distances + distances.T)
    trained = signal.concept_distances(classes(("color", "size")), distances)
    everywhere = signal.concept_distances(classes(("color", "size")), distances, trained_only=False)
    np.testing.assert_allclose(trained, [distances[0, 2], distances[0, 1]])
    color, size = (distances[0, 2] + distances[1, 3]) / 2, (distances[0, 1] + distances[2, 3]) / 2
    np.testing.assert_allclose(everywhere, [color, size])


def test_normalized_range_signal_is_near_the_published_color_scale():
    seps = jnp.array([[0.1, 0.4], [0.4, 0.4], [0.8, 0.4], [0.4, 0.2]])
    signals = jax.jit(jax.vmap(lambda c, s: signal.range_signal(DATA, Setting(sep_col=c, sep_size=s), KEY, n=128)))
    published = [[0.05, 1.0], [0.47, 0.88], [0.785, 0.62], [0.685, 0.73]]  # read off a figure by eye
    np.testing.assert_allclose(normalise(np.asarray(signals(*seps.T))), published, atol=0.02)


@pytest.mark.parametrize("at_mean", [True, False])
def test_paired_images_share_everything_but_the_class(at_mean):
    paired = paired_items(COARSE, Setting(), 8, KEY, at_mean=at_mean)
    cv = paired.cv
    for leaf in (cv.x, cv.y, cv.bg_color, jax.random.key_data(paired.noise_key)):
        np.testing.assert_array_equal(leaf, jnp.broadcast_to(leaf[:1], leaf.shape))
    np.testing.assert_allclose(cv.color[0] - cv.color[2], np.tile([0.2, 0, -0.2], (8, 1)), atol=1e-6)
    np.testing.assert_allclose(cv.size[0] - cv.size[1], 0.4, atol=1e-6)
    np.testing.assert_array_equal(cv.color[0], cv.color[1])


def test_color_signal_grows_with_the_square_of_the_separation():
    seps = jnp.array([0.1, 0.2, 0.4])
    measure = jax.jit(jax.vmap(lambda sep: signal.pixel_signal(COARSE, Setting(sep_col=sep), KEY, n=16)))
    color, size = measure(seps).T
    np.testing.assert_allclose(color / color[0], [1, 4, 16], rtol=1e-3)
    assert (np.diff(size) > 0).all()


def test_signals_of_a_grid_equal_those_of_each_run():
    grid = Setting(sep_col=jnp.array([0.2, 0.7]), sep_size=jnp.array([0.3, 0.4]), sep_bg=jnp.array([0.2, 0.3]))
    grid = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (2,)), grid)
    source = Renderer(DataConfig(active=("shape", "color", "bg_color"), image_size=12))

    def measures(setting: Setting) -> jax.Array:
        kinds = (signal.pixel_signal, signal.range_signal, signal.jacobian_signal)
        return jnp.stack([measure(source, setting, KEY, n=5) for measure in kinds])

    together, single = jax.jit(jax.vmap(measures))(grid), jax.jit(measures)
    alone = [single(jax.tree.map(lambda leaf, r=run: leaf[r], grid)) for run in range(2)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-4)
    assert together.shape == (2, 3, 3) and np.isfinite(together).all() and (together > 0).all()


@pytest.mark.parametrize("shape", [0, 1])
def test_smooth_rendering_tends_to_the_hard_one(shape):
    cv = one_vector(shape)
    hard = render(cv, 32, 1.0)
    errors = [float(jnp.abs(smooth_render(cv, 32, 1.0, edge) - hard).mean()) for edge in (0.5, 0.1, 1e-3)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[0] < 0.01 and errors[2] < 5e-4


@pytest.mark.parametrize("shape", [0, 1])
@pytest.mark.parametrize("name", ["x", "y", "size"])
def test_jacobian_equals_finite_differences(shape, name):
    cv, step = one_vector(shape), 2e-3
    moved = [cv.replace(**{name: getattr(cv, name) + sign * step}) for sign in (1, -1)]
    ahead, behind = (smooth_render(one, 16, 1.0) for one in moved)
    derivative = getattr(jacobian(cv, 16, 1.0), name)
    np.testing.assert_allclose(derivative, (ahead - behind) / (2 * step), atol=2e-3)
    assert abs(derivative).max() > 0.1


@pytest.mark.parametrize("shape", [0, 1])
def test_jacobian_of_colors_is_the_blurred_mask(shape):
    cv, eye = one_vector(shape), np.eye(3)
    white_on_black = cv.replace(color=jnp.ones(3), bg_color=jnp.zeros(3))
    mask = np.asarray(smooth_render(white_on_black, 16, 1.0)[..., :1, None])
    derivative = jacobian(cv, 16, 1.0)
    np.testing.assert_allclose(derivative.color, mask * eye, atol=1e-6)
    np.testing.assert_allclose(derivative.bg_color, (1 - mask) * eye, atol=1e-6)
    norms = jacobian_norms(jax.tree.map(lambda leaf: leaf[None], cv), 16, 1.0)[0]
    np.testing.assert_allclose(norms[CONCEPTS.index("color")], np.sqrt(3 * (mask**2).sum()), rtol=1e-5)
    np.testing.assert_allclose(norms[CONCEPTS.index("bg_color")], np.sqrt(3 * ((1 - mask) ** 2).sum()), rtol=1e-5)


def test_jacobian_of_the_shape_is_the_difference_of_the_two_renderings():
    circle, triangle = (smooth_render(one_vector(shape), 16, 1.0) for shape in (0, 1))
    np.testing.assert_allclose(jacobian(one_vector(0), 16, 1.0).shape, triangle - circle, atol=1e-6)


def test_class_difference_of_colors_through_the_jacobian_is_their_pixel_distance():
    """Images are linear in colour, so J times the class difference is the difference of the images."""
    cv, difference = one_vector(), jnp.array([-0.4, 0.0, 0.4])
    through = jacobian(cv, 32, 1.0, edge=1e-4).color @ difference
    exact = render(cv.replace(color=cv.color + difference), 32, 1.0) - render(cv, 32, 1.0)
    np.testing.assert_allclose(jnp.mean(through**2), jnp.mean(exact**2), rtol=2e-3)


def test_jacobian_signal_of_color_ignores_the_color_separation():
    measure = jax.jit(jax.vmap(lambda sep: signal.jacobian_signal(COARSE, Setting(sep_col=sep), KEY, n=8)))
    color, size = measure(jnp.array([0.1, 0.8])).T
    np.testing.assert_allclose(color[0], color[1], rtol=1e-5)
    assert size[1] > 1.2 * size[0]


def test_jacobian_stays_finite_with_a_pixel_in_the_exact_centre():
    cv = jax.tree.map(lambda leaf: leaf[None], one_vector()).replace(x=jnp.zeros(1), y=jnp.zeros(1))
    assert np.isfinite(jacobian_norms(cv, 17, 0.0)).all()
