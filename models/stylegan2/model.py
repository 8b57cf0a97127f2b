"""StyleGAN2 (Karras et al., 2020) in training: losses, lazy regularisation, style mixing, moving average of weights.

The focal frequency loss joins the generator's loss. Fakes have no target, so that it compares the average
spectra of the two minibatches (Section 4.2 of the paper; ``loss.ave_spectrum``).
"""

import copy
from typing import Annotated, Literal

import torch
from torch import Tensor

from ffl.errors import UserError
from ffl.losses.gan import discriminator_loss, generator_loss
from ffl.ranges import Count, Decay, NonNegative, Positive, Range, Whole
from ffl.training.model import Batch, Model, Phase, Task, latent_noise
from ffl.training.objective import Objective
from models.stylegan2.discriminator import Discriminator
from models.stylegan2.generator import Generator, LowPrecision, mix_styles
from models.stylegan2.regularization import path_length_penalty, path_lengths, r1_penalty

PATH_LENGTH_DECAY = 0.01


class StyleGAN2(Model):
    """Unconditional synthesis of Table 6.

    An iteration has up to four phases: the generator's loss, its path length regularisation every few steps,
    the discriminator's loss, and its R1 regularisation more rarely still. A phase and its regularisation share an
    optimiser, whose settings allow for the steps that regularisation adds (Appendix B of StyleGAN2).

    Args:
        image_size: (H, W), equal, a power of two from 16 to 1024.
        objective: extra terms, built from ``configs/loss``.
        latent_dim: of z and w.
        num_mapping_layers: fully connected layers of the mapping network.
        channel_base: feature maps times resolution; config F has 32768, its half-channel variant 16384.
        channel_max: most feature maps of a layer.
        mbstd_group: images of a group of the minibatch standard deviation.
        num_low_precision: how many of the highest resolutions run in ``low_precision``.
        low_precision: "float16", on a GPU only, or "bfloat16".
        conv_clamp: limit of activations, which keeps them within float16; None for none.
        lr: learning rate of Adam, before the correction for lazy regularisation.
        betas: of Adam, before the correction.
        r1_gamma: weight of R1; 0 leaves it out.
        r1_interval: steps between its evaluations.
        path_length_weight: of path length regularisation; 0 leaves it out.
        path_length_interval: steps between its evaluations.
        path_length_shrink: it sees the batch divided by this.
        style_mixing: share of fakes that mix two latents.
        ema_kimg: half-life of the moving average of the generator's weights, in thousands of images.
        ema_rampup: half-life as a share of the images seen, while that is shorter; None for no ramp.
        psi: truncation of generated images; 1 for none.
        noise: of generated images: "const", "random" or "none". Random noise is drawn from torch's global
            generator, so that images then differ between calls.
    """

    tasks = ("synthesis",)
    generates_with = ("generator_ema",)
    own_precision = True
    second_order = True
    path_length_mean: Tensor

    def __init__(
        self,
        image_size: tuple[int, int],
        objective: Objective,
        latent_dim: Count = 512,
        num_mapping_layers: Count = 8,
        channel_base: Count = 16384,
        channel_max: Count = 512,
        mbstd_group: Count = 8,
        num_low_precision: Whole = 4,
        low_precision: LowPrecision = "float16",
        conv_clamp: float | None = 256.0,
        lr: Positive = 0.0025,
        betas: tuple[Decay, Decay] = (0.0, 0.99),
        r1_gamma: NonNegative = 1.0,
        r1_interval: Count = 16,
        path_length_weight: NonNegative = 2.0,
        path_length_interval: Count = 4,
        path_length_shrink: Count = 2,
        style_mixing: Annotated[float, Range(0, 1)] = 0.9,
        ema_kimg: NonNegative = 20.0,
        ema_rampup: NonNegative | None = 0.05,
        psi: float = 1.0,
        noise: Literal["const", "random", "none"] = "const",
    ) -> None:
        super().__init__()
        resolution, width = image_size
        if resolution != width or not 16 <= resolution <= 1024 or resolution & (resolution - 1):
            raise UserError(
                f"dataset.image_size={resolution}x{width}: StyleGAN2 takes square images, "
                "a power of two from 16 to 1024"
            )
        if channel_base < resolution:
            raise UserError(f"model.channel_base={channel_base}: must be at least {resolution}, the image size")
        self.generator = Generator(
            resolution,
            latent_dim,
            num_mapping_layers,
            channel_base,
            channel_max,
            conv_clamp,
            num_low_precision,
            low_precision,
        )
        self.discriminator = Discriminator(
            resolution, channel_base, channel_max, mbstd_group, conv_clamp, num_low_precision, low_precision
        )
        # Images are made with the moving average of the weights: single steps of adversarial training scatter widely.
        self.generator_ema = copy.deepcopy(self.generator).requires_grad_(False)
        self.register_buffer("path_length_mean", torch.zeros(()))
        self._moved_means: list[Tensor] = []  # of this step's shards; the mean moves when all have been seen
        self.objective = objective
        self.lr = lr
        self.betas = betas
        self.r1_gamma = r1_gamma
        self.r1_interval = r1_interval
        self.path_length_weight = path_length_weight
        self.path_length_interval = path_length_interval
        self.path_length_shrink = path_length_shrink
        self.style_mixing = style_mixing
        self.ema_kimg = ema_kimg
        self.ema_rampup = ema_rampup
        self.psi = psi
        self.noise: Literal["const", "random", "none"] = noise

    def phases(self) -> list[Phase]:
        """Each network's phase, and its regulariser's where that has a weight.

        With one step of regularisation to every k others, Adam takes c = (k + 1) / k as many steps: λ' = λ / c
        and β' = β^(1 / c) keep its pace.
        """
        phases = []
        for name, network, regularizer, weight, interval in (
            ("generator", self.generator, "path_length", self.path_length_weight, self.path_length_interval),
            ("discriminator", self.discriminator, "r1", self.r1_gamma, self.r1_interval),
        ):
            pace = interval / (interval + 1) if weight else 1.0
            lr, betas = self.lr * pace, (self.betas[0] ** pace, self.betas[1] ** pace)
            phases.append(Phase(name, network.parameters(), lr, betas, optimizer=name))
            if weight:
                phases.append(Phase(regularizer, network.parameters(), lr, betas, interval=interval, optimizer=name))
        return phases

    def losses(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """See ``Model.losses``. The generator's phase puts its fakes into the batch, for the log of gradient shares."""
        real: Tensor = batch["image"]
        batch.pop("fake", None)  # each phase draws its own: those of another belong to weights that have moved

        if phase == "generator":
            fake = batch["fake"] = self.generator.synthesis(self._draw_styles(real), "random")
            own = {"adversarial": generator_loss(self.discriminator(fake), "vanilla")}
            return self.objective(fake, real, own)

        if phase == "path_length":
            ws = self._draw_styles(real[: max(1, len(real) // self.path_length_shrink)])
            images = self.generator.synthesis(ws, "random")
            # ‖Jᵀ y‖ for a random direction y: it is to be the same for all directions and everywhere in w.
            lengths = path_lengths(images, ws, torch.randn_like(images))
            penalty, moved = path_length_penalty(lengths, self.path_length_mean, PATH_LENGTH_DECAY)
            self._moved_means.append(moved)
            # Times the interval: the penalty stands for the steps without it, too.
            return {"penalty": self.path_length_weight * self.path_length_interval * penalty.mean()}

        if phase == "discriminator":
            with torch.no_grad():
                fake = self.generator.synthesis(self._draw_styles(real), "random")
            return {
                "real": discriminator_loss(self.discriminator(real), True, "vanilla"),
                "fake": discriminator_loss(self.discriminator(fake), False, "vanilla"),
            }

        # R1 looks at real images alone: at the optimum the discriminator is flat there (Mescheder et al., 2018).
        if phase == "r1":
            real = real.detach().requires_grad_()
            penalty = r1_penalty(real, self.discriminator(real)).mean()
            return {"penalty": self.r1_gamma / 2 * self.r1_interval * penalty}
        raise ValueError(f"unknown phase {phase!r}")

    def _draw_styles(self, like: Tensor) -> Tensor:
        """Random styles for as many fakes as ``like`` has images: (N, num_ws, latent_dim). Moves the mean of w."""
        # Everything is drawn whatever is used, so that style_mixing=0 leaves the other random numbers as they are.
        z = torch.randn(2, len(like), self.generator.latent_dim, device=like.device, dtype=like.dtype)
        num_ws = self.generator.synthesis.num_ws
        start = torch.randint(1, num_ws, (len(like),), device=like.device)
        mixes = torch.rand(len(like), device=like.device) < self.style_mixing
        w = self.generator.mapping(z.flatten(0, 1) if self.style_mixing > 0 else z[0])
        first, second = w[: len(like)], w[-len(like) :]
        self.generator.mapping.track_average(first)
        return mix_styles(first, second, num_ws, torch.where(mixes, start, num_ws))

    @torch.no_grad()
    def finish_step(self, images_seen: int, batch_size: int) -> None:
        """Move the averages: of the path length, and of the weights with half-life ``ema_kimg``, shorter at first."""
        if self._moved_means:
            self.path_length_mean.copy_(torch.stack(self._moved_means).mean())
            self._moved_means.clear()
        half_life = self.ema_kimg * 1000
        if self.ema_rampup is not None:
            half_life = min(half_life, (images_seen - batch_size) * self.ema_rampup)
        weight = 1 - 0.5 ** (batch_size / max(half_life, 1e-8))
        # Buffers are copied and not averaged, as officially: the mean of w is an average already.
        averages: list[Tensor] = list(self.generator_ema.parameters())
        current: list[Tensor] = list(self.generator.parameters())
        torch._foreach_lerp_(averages, current, weight)
        for average, value in zip(self.generator_ema.buffers(), self.generator.buffers(), strict=True):
            average.copy_(value)

    def protocol(self, task: Task) -> dict[str, str | float | bool]:
        return {"weights": "moving average", "truncation_psi": self.psi, "noise": self.noise}

    @torch.no_grad()
    def generate(self, batch: Batch, task: Task, seed: int) -> Tensor:
        z = latent_noise(batch["index"], seed, (self.generator_ema.latent_dim,))
        z = z.to(self.generator_ema.mapping.w_avg.device)
        return self.generator_ema(z, self.psi, self.noise).clamp(-1, 1)
