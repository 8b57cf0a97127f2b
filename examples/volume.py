"""The focal frequency loss on a volume: a magnetic resonance image of a head, at twice its size along three axes.

The image comes inside the nibabel package. Air is masked, since its noise is nothing to be learnt. The value of
the loss may rise while errors fall: its weights are relative to the largest error, which goes first.

Run with: python examples/volume.py
"""

import nibabel
import torch
import torch.nn.functional as F
from nibabel.testing import data_path
from torch import nn

from ffl import FocalFrequencyLoss, GradientShare, gradient_share

torch.manual_seed(0)
image = nibabel.Nifti1Image.from_filename(f"{data_path}/example4d.nii.gz")
scan = image.get_fdata(dtype="float32")[..., 0]  # (128, 96, 24)
real = torch.from_numpy(scan / scan.max()).permute(2, 0, 1)[None, None, :, 28:92, 16:80]  # (1, 1, D, H, W)
head = real > 0.05
small = F.avg_pool3d(real, 2)
smooth = F.interpolate(small, scale_factor=2.0, mode="trilinear")

enlarge = nn.ConvTranspose3d(16, 1, 2, stride=2, bias=False)
nn.init.zeros_(enlarge.weight)  # training starts from the trilinear interpolation
network = nn.Sequential(nn.Conv3d(1, 16, 3, padding=1), nn.ReLU(), enlarge)
optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
frequency_loss = FocalFrequencyLoss(dims=3)  # one spectrum over depth, height and width
share = GradientShare(target=0.5)
detail = FocalFrequencyLoss(dims=3, ablation="no_focal", prior="high_pass(0.5)")  # squared error of high frequencies

for step in range(41):
    fake = smooth + network(small)
    pixel = (fake - real)[head].square().mean()
    frequency = frequency_loss(fake, real, mask=head)
    weighted = share(frequency, others=[pixel], output=fake)
    if step % 20 == 0:
        held = gradient_share({"pixel": pixel, "ffl": weighted}, fake)["ffl"]
        high = detail(fake.detach(), real, mask=head)
        print(f"step {step}: MSE {pixel:.6f}, high {high:.6f}, FFL {frequency:.6f}, share {held:.2f}")
    optimizer.zero_grad()
    (pixel + weighted).backward()
    optimizer.step()
