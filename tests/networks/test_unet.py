"""The U-Net: sizes in and out, and from its weights back to it."""

import pytest
import torch

from ffl.errors import UserError
from ffl.networks.unet import UNet, unet_from_state_dict


@pytest.mark.parametrize("size", [(64, 128), (33, 50), (2, 3)])
def test_every_pixel_of_any_size_has_scores(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = UNet(5, channels=4, levels=3).eval()
    images = torch.rand(2, 3, *size) * 2 - 1
    scores = network(images)
    assert scores.shape == (2, 5, *size)
    torch.testing.assert_close(scores[:1], network(images[:1]))


def test_each_level_halves_the_sides_and_doubles_the_channels() -> None:
    shapes: list[tuple[int, ...]] = []
    network = UNet(5, channels=4, levels=3)
    for block in (*network.encoder, *network.decoder):
        block.register_forward_hook(lambda block, inputs, output: shapes.append(tuple(output.shape[1:])))
    network(torch.zeros(2, 3, 32, 48))
    down = [(4, 16, 24), (8, 8, 12), (16, 4, 6), (32, 2, 3)]
    assert shapes == [*down, *reversed(down[:-1])]


def test_weights_tell_the_network() -> None:
    torch.manual_seed(0)
    network = UNet(7, channels=4, levels=2).eval()
    network.encoder[0][1].running_mean.fill_(0.5)
    images = torch.rand(1, 3, 16, 16)
    again = unet_from_state_dict(network.state_dict())
    assert not again.training
    assert torch.equal(again(images), network(images))


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"head.weight": None}, "missing: head.weight"), ({"head.weight": torch.zeros(5, 6, 1, 1)}, "wrong shape: enc")],
)
def test_other_weights_are_refused(changed: dict[str, torch.Tensor | None], message: str) -> None:
    weights = {**UNet(5, channels=4, levels=2).state_dict(), **changed}
    with pytest.raises(UserError, match=rf"this is no complete U-Net checkpoint: {message}"):
        unet_from_state_dict({key: value for key, value in weights.items() if value is not None})
