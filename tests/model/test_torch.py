"""Exported weights in PyTorch: its network takes them and predicts what ours does. Only where PyTorch is installed."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from cspace_jax.config import DiffusionConfig
from cspace_jax.model import torch_weights, unet, vdm

torch = pytest.importorskip("torch")
SIZE = tiny.DATA.image_size


@pytest.mark.parametrize("dropout", [0.0, 0.1])  # the layers after it have other names
def test_pytorch_takes_exported_weights_and_predicts_the_same(dropout, tmp_path):
    from safetensors.torch import load_file

    from experiments import torch_baseline

    network, diffusion = dataclasses.replace(tiny.NETWORK, dropout=dropout), DiffusionConfig()
    spec = vdm.Vdm.from_config(network, diffusion, "xla")
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: vdm.init_params(spec, key), jax.random.key(0))
    params = jax.tree.map(lambda leaf: (0.1 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(torch_weights.write_safetensors(torch_weights.vdm_state(spec.network, params), {}))
    theirs = torch_baseline.Vdm(network, diffusion).eval()
    found = theirs.load_state_dict(load_file(file), strict=False)
    assert found.missing_keys == [] and all(".down." in key or ".up." in key for key in found.unexpected_keys)
    z = rng.normal(size=(3, SIZE, SIZE, 3)).astype(np.float32)
    t, c = rng.uniform(size=3).astype(np.float32), rng.uniform(size=(3, 11)).astype(np.float32)
    ours = jax.jit(unet.apply, static_argnums=0)(spec.network, params["network"], *map(jax.numpy.asarray, (z, t, c)))
    with torch.no_grad():
        out = theirs.score_model(torch.tensor(z).permute(0, 3, 1, 2), torch.tensor(t), torch.tensor(c))
    np.testing.assert_allclose(out.permute(0, 2, 3, 1).numpy(), ours, atol=1e-5)
