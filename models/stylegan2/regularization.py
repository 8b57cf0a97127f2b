"""The two lazy regularisers of StyleGAN2's training, as penalties per image."""

import math

import torch
from torch import Tensor


def r1_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """Squared gradient norm of the discriminator at real images (Mescheder et al., 2018, Eq. 9, without γ / 2).

    Args:
        images: float (N, C, H, W) that requires a gradient.
        logits: (N, 1), computed from ``images``.
    Returns:
        (N,), differentiable.
    """
    # One backward pass of the sum gives the gradient of each image, but for what the minibatch standard deviation
    # carries from image to image; the official programs leave that in, too.
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3))


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """‖Jᵀ y‖ of the map from w to images, for random images y (Karras et al., 2020, Section 3.2).

    Args:
        images: float (N, C, H, W), synthesised from ``ws``.
        ws: (N, num_ws, latent_dim); the squared norm is averaged over layers.
        noise: standard normal, of the shape of ``images``; divided by the square root of the number of pixels here.
    Returns:
        (N,), differentiable. Jᵀ y jumps where a unit of the leaky ReLU changes its sign, and rounding makes a few units
        change theirs: 5 of 11 million at 64x64, by which float32 is 1.3e-3 from float64 (``f_rosinality_path`` of the
        tests). With the same signs in both, 1.8e-6 remains.
    """
    # Jᵀ y is the gradient of the product of image and y, so that the Jacobian itself is never formed.
    projected = (images * noise).sum() / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad(projected, ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def path_length_penalty(lengths: Tensor, mean: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Squared deviation from the running mean, which moves first (Karras et al., 2020, Eq. 4, without its weight).

    The gradient flows through the move too, as in the official programs.

    Args:
        lengths: (N,)
        mean: scalar, running mean of the steps before.
        decay: how far the mean moves towards that of ``lengths``.
    Returns:
        The penalty (N,) and the moved mean, which carries no gradient.
    """
    moved = mean.to(lengths.dtype).lerp(lengths.mean(), decay)
    return (lengths - moved).square(), moved.detach()
