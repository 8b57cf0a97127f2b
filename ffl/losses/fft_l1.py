"""L1 distance of spectra, the frequency term of MIMO-UNet (Cho et al., ICCV 2021, "Rethinking Coarse-to-Fine")."""

import torch
from torch import Tensor

from ffl.losses.pair_loss import PairLoss


def fft_l1_formula(f_r: Tensor, f_f: Tensor) -> Tensor:
    """The term as published: L1 between the stacked real and imaginary parts of the unnormalised spectra.

    Args:
        f_r: real images, (..., M, N), floating.
        f_f: generated images, same shape.
    Returns:
        Scalar, the mean over parts, frequencies and all leading axes.
    """
    F_r, F_f = torch.fft.fft2(f_r), torch.fft.fft2(f_f)
    return (torch.view_as_real(F_r) - torch.view_as_real(F_f)).abs().mean()


class FFTL1Loss(PairLoss):
    r"""L1 distance of real and imaginary parts of whole, unnormalised spectra; MIMO-UNet's term for one scale.

    For one channel of one image of M x N pixels, with $F(u, v) = \sum_{x, y} f(x, y) e^{-2\pi i (ux/M + vy/N)}$,

    $$
    L = \frac{1}{2MN} \sum_{u, v} |\mathrm{Re}\, F_f - \mathrm{Re}\, F_r| + |\mathrm{Im}\, F_f - \mathrm{Im}\, F_r|,
    $$

    averaged over the leading axes. Since the transform is not normalised, the value grows as $\sqrt{MN}$.
    Ports that average over the half spectrum of ``rfft2`` count its first column twice as much as the others and
    differ in the third digit.

    Images are (..., H, W) of any range. MIMO-UNet adds 0.1 times this term to the L1 distance of pixels, at each of
    three scales, for images in [0, 1].

    Args:
        reduction: see ``ffl.losses.pair_loss.PairLoss``.

    Examples:
        >>> import torch
        >>> from ffl.losses import FFTL1Loss
        >>> fake, real = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
        >>> FFTL1Loss()(fake, real)  # one frequency of 64 differs, by 64, in its real part
        tensor(0.5000)
    """

    def per_sample(self, fake: Tensor, real: Tensor) -> Tensor:
        difference = fake - real
        # The gradient by hand, from half a spectrum: autograd would go back through a whole one and take twice as long.
        with torch.no_grad():
            spectrum = torch.fft.rfft2(difference)
            signs = torch.view_as_complex(torch.view_as_real(spectrum).sign())
            gradient = torch.fft.irfft2(signs, s=difference.shape[-2:], norm="forward") / (2 * difference[0].numel())
        # A norm is the scalar product of its argument and its gradient (Euler), and the gradient of L1 is constant.
        return (gradient * difference).flatten(1).sum(1)
