"""Figures: each function takes the dataset (and images) and returns a Matplotlib figure; `save` writes it."""

from cspace_jax.plots.animation import to_gif
from cspace_jax.plots.embeddings import similarities
from cspace_jax.plots.figures import NAMES, draw_all
from cspace_jax.plots.pictures import class_images, fig2, sample_grid
from cspace_jax.plots.progress import fig12, learning_curves
from cspace_jax.plots.speeds import fig3
from cspace_jax.plots.style import save
from cspace_jax.plots.trajectories import fig4, fig13

__all__ = [
    "NAMES",
    "class_images",
    "draw_all",
    "fig2",
    "fig3",
    "fig4",
    "fig12",
    "fig13",
    "learning_curves",
    "sample_grid",
    "save",
    "similarities",
    "to_gif",
]
