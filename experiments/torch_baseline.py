"""The peer of the benchmark: the same network, loss, optimiser and sampler in plain PyTorch, one run a process.

Written as a PyTorch user would for speed: library kernels for convolutions, normalisation and attention, fused AdamW,
the training set kept as pixels in memory, no data loader. Parameter names follow the reference implementation, so that
`cspace_jax.model.torch_weights` reads a `state_dict`; layers that the reference never calls are left out. Images are
[b, c, h, w]. Source: reference implementation (networks, variational diffusion model, sampler).
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cspace_jax.config import Config, DiffusionConfig, NetworkConfig
from cspace_jax.data.concepts import CONDITIONING_DIM
from cspace_jax.model.unet import TIME_FEATURES, TIME_FREQUENCIES, TIME_SCALE

_NORM_EPS = 1e-6
_LN2 = math.log(2.0)


def _conv3(c_in: int, c_out: int, zero: bool = False) -> nn.Conv2d:
    layer = nn.Conv2d(c_in, c_out, 3, padding=1)
    if zero:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _mlp(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(c_in, c_out), nn.GELU(), nn.Linear(c_out, c_out), nn.GELU())


class Block(nn.Module):
    """Residual block with a time and a vector projection of its own ("sep_mlp")."""

    def __init__(self, c_in: int, c_out: int, groups: int, dropout: float):
        super().__init__()
        self.net1 = nn.Sequential(nn.GroupNorm(groups, c_in, eps=_NORM_EPS), nn.GELU(), _conv3(c_in, c_out))
        self.cond_projs = nn.ModuleList([_mlp(TIME_FEATURES, c_out), _mlp(CONDITIONING_DIM, c_out)])
        norm, drop = nn.GroupNorm(groups, c_out, eps=_NORM_EPS), [nn.Dropout(dropout)] if dropout else []
        self.net2 = nn.Sequential(norm, nn.GELU(), *drop, _conv3(c_out, c_out, zero=True))
        self.skip_conv = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, embeddings: tuple[Tensor, Tensor]) -> Tensor:
        """Map [b, c_in, h, w] to [b, c_out, h, w]."""
        h = self.net1(x)
        for project, embedding in zip(self.cond_projs, embeddings, strict=True):
            h = h + project(embedding)[:, :, None, None]
        return self.skip_conv(x) + self.net2(h)


class Attention(nn.Module):
    """Self-attention over pixels; channel index = d * heads + head."""

    def __init__(self, channels: int, groups: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels, eps=_NORM_EPS)
        self.q, self.k, self.v = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c, h, w] to the same shape."""
        b, c, h, w = x.shape
        normed = self.norm(x)

        def split(layer: nn.Module) -> Tensor:
            return layer(normed).reshape(b, c // self.heads, self.heads, h * w).permute(0, 2, 3, 1)

        mixed = F.scaled_dot_product_attention(split(self.q), split(self.k), split(self.v))
        return x + self.proj_out(mixed.permute(0, 3, 1, 2).reshape(b, c, h, w))


class Level(nn.Module):
    """The blocks of one resolution and, where there is one, the convolution to the next."""

    def __init__(self, c_in: int, c_out: int, blocks: int, groups: int, dropout: float):
        super().__init__()
        widths = [c_in] + [c_out] * blocks
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.resnet_blocks = nn.ModuleList([Block(*pair, groups, dropout) for pair in pairs])

    def forward(self, x: Tensor, embeddings: tuple[Tensor, Tensor]) -> Tensor:
        """Apply the blocks in turn."""
        for block in self.resnet_blocks:
            x = block(x, embeddings)
        return x


class UNet(nn.Module):
    """The U-Net of the reference implementation with separate conditioning MLPs."""

    def __init__(self, network: NetworkConfig):
        super().__init__()
        channels, groups, last = network.channels, network.groups, len(network.channels) - 1
        make = dict(blocks=network.blocks, groups=groups, dropout=network.dropout)
        self.embed_t_conditioning = _mlp(2 * TIME_FREQUENCIES, TIME_FEATURES)
        self.conv_in = _conv3(3, channels[0])
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(channels):
            part = Level(channels[max(level - 1, 0)], width, **make)
            if level < last:
                part.down = nn.Conv2d(width, width, 2, stride=2)
            self.downs.append(part)
        self.mid1, self.mid2 = (Block(channels[-1], channels[-1], groups, network.dropout) for _ in range(2))
        self.mid_attn1 = Attention(channels[-1], groups, network.heads) if network.attention else nn.Identity()
        for level in reversed(range(last + 1)):
            part = Level(channels[level] * (1 if level == last else 2), channels[level], **make)
            if level > 0:
                part.up = nn.ConvTranspose2d(channels[level], channels[level - 1], 2, stride=2)
            self.ups.append(part)
        self.norm_out = nn.GroupNorm(groups, channels[0], eps=_NORM_EPS)
        self.conv_out = _conv3(channels[0], 3, zero=True)
        exponents = torch.arange(TIME_FREQUENCIES) / (TIME_FREQUENCIES - 1)
        self.register_buffer("frequencies", 10.0 ** (-4.0 * exponents), persistent=False)

    def forward(self, z: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """Predict the noise in z [b, 3, h, w] at normalised times t [b] for conditionings c [b, 11]."""
        angles = (t * TIME_SCALE)[:, None] * self.frequencies
        embeddings = self.embed_t_conditioning(torch.cat([angles.sin(), angles.cos()], -1)), c
        x, skips = self.conv_in(z), []
        for level in self.downs:
            x = level(x, embeddings)
            if hasattr(level, "down"):
                skips.append(x)
                x = level.down(x)
        x = self.mid2(self.mid_attn1(self.mid1(x, embeddings)), embeddings)
        for level in self.ups:
            x = level(x, embeddings)
            if hasattr(level, "up"):
                x = torch.cat([level.up(x), skips.pop()], 1)
        return self.conv_out(F.gelu(self.norm_out(x))) + z


class Schedule(nn.Module):
    """gamma(t) = b + |w| t, trained or fixed."""

    def __init__(self, diffusion: DiffusionConfig):
        super().__init__()
        trained = diffusion.schedule == "learned_linear"
        low, high = float(diffusion.gamma_min), float(diffusion.gamma_max)
        self.b = nn.Parameter(torch.tensor(low), requires_grad=trained)
        self.w = nn.Parameter(torch.tensor(high - low), requires_grad=trained)
        self.low, self.high = low, high

    def forward(self, t: Tensor) -> Tensor:
        """Return minus the log signal-to-noise ratio at times t."""
        return self.b + self.w.abs() * t

    def network_time(self, gamma: Tensor) -> Tensor:
        """Rescale gamma by the initial end points."""
        return (gamma - self.low) / (self.high - self.low)


class Vdm(nn.Module):
    """Variational diffusion model: loss and ancestral sampler of one run."""

    def __init__(self, network: NetworkConfig, diffusion: DiffusionConfig):
        super().__init__()
        self.score_model = UNet(network)
        self.gamma = Schedule(diffusion)

    def eps_hat(self, z: Tensor, gamma: Tensor, c: Tensor) -> Tensor:
        """Predict the noise in z [b, 3, h, w] at gamma [b]."""
        return self.score_model(z, self.gamma.network_time(gamma), c)

    def loss(self, x: Tensor, c: Tensor, t: Tensor, eps: Tensor, eps_0: Tensor, data_noise: float) -> Tensor:
        """Return the mean variational bound in bits per dimension."""
        gamma = self.gamma(t)[:, None, None, None]
        z = torch.sqrt(torch.sigmoid(-gamma)) * x + torch.sqrt(torch.sigmoid(gamma)) * eps
        width = self.gamma.w.abs()
        diffusion = 0.5 * width * (self.eps_hat(z, gamma[:, 0, 0, 0], c) - eps).square().sum((1, 2, 3))
        variance = torch.sigmoid(self.gamma.b + width)
        kl = variance + (1.0 - variance) * x.square() - torch.log(variance.clamp_min(1e-15)) - 1.0
        ratio = torch.exp(0.5 * self.gamma.b)  # sigma_0 / alpha_0
        likelihood = 0.5 * (ratio * eps_0 / data_noise).square() + math.log(data_noise) + 0.5 * math.log(2 * math.pi)
        total = diffusion + 0.5 * kl.sum((1, 2, 3)) + likelihood.sum((1, 2, 3))
        return total.mean() / (x[0].numel() * _LN2)

    @torch.inference_mode()
    def sample(self, z: Tensor, c: Tensor, steps: int) -> Tensor:
        """Draw samples from starting noise z in `steps` network calls, noise added at every step."""
        times = torch.linspace(1.0, 0.0, steps + 1, device=z.device)
        gammas = self.gamma(times)
        for gamma_t, gamma_s in zip(gammas[:-1], gammas[1:], strict=True):
            decay = -torch.expm1(gamma_s - gamma_t)
            eps = self.eps_hat(z, gamma_t.expand(len(z)), c)
            scale = torch.sqrt(torch.sigmoid(-gamma_s) / torch.sigmoid(-gamma_t))
            z = scale * (z - decay * torch.sqrt(torch.sigmoid(gamma_t)) * eps)
            z = z + torch.sqrt(torch.sigmoid(gamma_s) * decay) * torch.randn_like(z)
        return z


@dataclasses.dataclass
class Run:
    """One run: model, optimiser, weight average and training set, on one device."""

    config: Config
    model: Vdm
    optimizer: torch.optim.Optimizer
    average: list[Tensor]
    images: Tensor
    conditionings: Tensor
    order: Tensor
    device: torch.device
    step: int = 0

    @classmethod
    def start(
        cls, config: Config, images: Tensor, conditionings: Tensor, device: str = "cpu", channels_last: bool = False
    ) -> "Run":
        """Make a run with fresh weights from a training set of images [n, 3, h, w] and conditionings [n, 11]."""
        model = Vdm(config.network, config.diffusion).to(device)
        if channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            images = images.contiguous(memory_format=torch.channels_last)
        trained = [p for p in model.parameters() if p.requires_grad]
        optim, grid = config.optim, config.grid
        optimizer = torch.optim.AdamW(
            trained, grid.learning_rate[0], (optim.b1, optim.b2), optim.eps, grid.weight_decay[0], fused=True
        )
        average = [p.detach().clone() for p in trained] if optim.ema > 0 else []
        order = torch.randperm(len(images), device=device)
        data = images.to(device), conditionings.to(device)
        return cls(config, model, optimizer, average, *data, order, torch.device(device))

    def train(self, steps: int) -> float:
        """Take `steps` training steps and return the last loss."""
        self.model.train()
        loss = torch.zeros(())
        for _ in range(steps):
            loss = self._step()
        return float(loss.detach())

    def _step(self) -> Tensor:
        config, size = self.config, self.config.optim.batch_size
        position = self.step % (len(self.images) // size)
        if position == 0:
            self.order = torch.randperm(len(self.images), device=self.device)
        index = self.order[position * size : (position + 1) * size]
        x, c = self.images[index], self.conditionings[index]
        t = torch.rand((), device=self.device) / size + torch.arange(size, device=self.device) / size
        noises = torch.randn_like(x), torch.randn_like(x)
        loss = self.model.loss(x, c, t, *noises, config.grid.data_noise[0])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trained = self.optimizer.param_groups[0]["params"]
        torch.nn.utils.clip_grad_norm_(trained, config.optim.clip, foreach=True)
        self.optimizer.step()
        if self.average:
            torch._foreach_lerp_(self.average, trained, 1.0 - config.optim.ema)
        self.step += 1
        return loss

    def sample(self, per_class: int) -> Tensor:
        """Draw `per_class` samples of each of the four classes' worth of conditionings."""
        self.model.eval()
        size, steps = self.config.data.image_size, self.config.evaluate.sampling_steps
        index = torch.arange(4 * per_class, device=self.device) % len(self.conditionings)
        z = torch.randn(4 * per_class, 3, size, size, device=self.device)
        return self.model.sample(z, self.conditionings[index], steps)

    def synchronize(self) -> None:
        """Wait until the device has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
