"""ResNet-18 for small images (He et al., "Deep residual learning for image recognition", 2016), as the published zoos.

The stem is a 3x3 convolution with stride 1 and no max-pool; the rest, and the names in the state dict, are torchvision's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a skip connection: [n, inputs, h, w] -> [n, width, h/stride, w/stride]."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        # The shortcut is built first but registered last: the order in which torchvision draws and names.
        shortcut = None
        if stride != 1 or inputs != width:
            shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        skip = x if self.downsample is None else self.downsample(x)
        h = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(h)) + skip)


class ResNet18(nn.Module):
    """ResNet-18 with the stem for small images: [n, channels, height, width] -> logits [n, classes].

    Args:
        image: (channels, height, width) of the images; any height and width of at least 1.
        classes: number of outputs.

    The constructor draws from torch's generator exactly as the published class does, which derives from torchvision's:
    a 7x7 stem, the blocks and the head; every convolution again by Kaiming's normal rule; then the 3x3 stem that
    replaces the first. So the weights of a seed are the published ones.
    """

    def __init__(self, image: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.conv1 = nn.Conv2d(image[0], 64, 3, stride=1, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes]."""
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return self.fc(torch.flatten(self.avgpool(h), 1))
