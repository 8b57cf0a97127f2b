"""Spectral regularisation (Durall et al., "Watch your Up-Convolution", CVPR 2020), compared in Table 7."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffl.spectrum import radial_profile

Form = Literal["paper", "published"]

# ITU-R BT.601 luma, to the digits that the published code has.
_LUMA = (0.2989, 0.5870, 0.1140)
# The cross entropy is infinite at predictions of 0 and 1, which a min-max normalised profile always contains.
_MARGIN = 1e-4
# Range of a profile, in units of 20 ln |F|, below which it counts as flat.
_MIN_RANGE = 1e-6


class SpectralRegularization(nn.Module):
    r"""Binary cross entropy between the azimuthally averaged spectra of fake and real images.

    The spectrum of an image is reduced to a profile AI over spatial frequency, see
    ``spectral_profile``. With a prediction p and a target t of R bins,

    $$
    L = -\frac{1}{R} \sum_{k=1}^{R} t_k \log p_k + (1 - t_k) \log(1 - p_k),
    $$

    averaged over the images.

    Args:
        form: which of two losses of that name:

            - "paper": the formula of the article. The prediction is the profile of each fake image, the
              target the mean profile of the real ones; differentiable with respect to ``fake``. Predictions
              are held within [1e-4, 1 - 1e-4]. Profiles are normalised as in the published code; the
              article divides by the zeroth coefficient, which does not bound them by 1 when images have a
              mean near 0.
            - "published": what the authors' code computes. Prediction and target change places, images are
              taken in pairs, and no gradient passes: the value only rescales the generator's loss, which the
              caller does by ``total = g_loss * (1 + weight * regularization(fake, real))``.

    Examples:
        >>> import torch
        >>> from ffl import SpectralRegularization
        >>> fake, real = torch.rand(2, 3, 16, 16, requires_grad=True), torch.rand(2, 3, 16, 16)
        >>> SpectralRegularization()(fake, real).backward()
        >>> SpectralRegularization(form="published")(fake, real).requires_grad
        False
    """

    def __init__(self, form: Form = "paper") -> None:
        super().__init__()
        if form not in get_args(Form):
            raise ValueError(f"form must be one of {', '.join(map(repr, get_args(Form)))}, got {form!r}")
        self.form: Form = form

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            fake: (N, C, H, W) floating, C is 1 or 3, RGB; generated images, any range.
            real: the same; with ``form="paper"`` the number of images may be another.
        Returns:
            Scalar; float64 for float64 images, else float32.
        Raises:
            TypeError: an input is not a floating tensor.
            ValueError: shapes do not fit.
        """
        pairs = self.form == "published"
        if fake.ndim != 4 or fake.shape[not pairs :] != real.shape[not pairs :]:
            what = "the same shape (N, C, H, W)" if pairs else "shapes (N, C, H, W) that differ at most in N"
            raise ValueError(f"fake and real must have {what}, got {tuple(fake.shape)} and {tuple(real.shape)}")
        with torch.autocast(fake.device.type, enabled=False):
            # The published code takes the generated images as the target, the reverse of the article.
            if pairs:
                with torch.no_grad():
                    return F.binary_cross_entropy(spectral_profile(real), spectral_profile(fake))
            # The article: each generated profile is compared with the mean profile of the real images, a constant.
            with torch.no_grad():
                target = spectral_profile(real).mean(0, keepdim=True)
            profile = spectral_profile(fake)
            return F.binary_cross_entropy(profile.clamp(_MARGIN, 1 - _MARGIN), target.expand_as(profile))

    def extra_repr(self) -> str:
        return f"form={self.form!r}"


def spectral_profile(images: Tensor) -> Tensor:
    """Azimuthal average of 20 ln |F + 1e-8| of the luma, each profile scaled to [0, 1] by its own extremes.

    Args:
        images: (N, C, H, W) floating, any range; C is 3 (RGB) or 1 (taken as luma).
    Returns:
        (N, R), bins as in ``ffl.spectrum.radial_profile``; all 0 for an image whose profile is flat.
    Raises:
        TypeError: not a floating tensor.
        ValueError: not a batch of images with 1 or 3 channels.
    """
    if not images.is_floating_point():
        raise TypeError(f"images must be a floating tensor, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[0] == 0:
        raise ValueError(f"images must be (N, C, H, W) with C 1 or 3 and N at least 1, got {tuple(images.shape)}")
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    gray = images[:, 0]
    if images.shape[1] == 3:
        red, green, blue = _LUMA
        gray = red * images[:, 0] + green * images[:, 1] + blue * images[:, 2]
    spectrum = torch.fft.fftshift(torch.fft.fft2(gray), dim=(-2, -1))
    profile = radial_profile(20 * (spectrum + 1e-8).abs().log())
    low, high = profile.amin(-1, keepdim=True), profile.amax(-1, keepdim=True)
    return (profile - low) / (high - low).clamp_min(_MIN_RANGE)
