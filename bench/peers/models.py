# SPDX-License-Identifier: Apache-2.0
"""The models of the training cases. bench/models.c builds the same ones."""
import torch
import torch.nn as nn
import torch.nn.functional as F


def mlp():
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def stack():
    """The model of bench/distributed*.c: 16 linear layers of 768 x 768."""
    layers = [nn.Linear(768, 768)]
    for _ in range(15):
        layers += [nn.ReLU(), nn.Linear(768, 768)]
    return nn.Sequential(*layers)


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


class BasicBlock(nn.Module):
    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = None
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                                          nn.BatchNorm2d(channels))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x if self.shortcut is None else self.shortcut(x)
        return F.relu(y, inplace=True)


def resnet18():
    """The CIFAR form: a 3x3 stem without pooling, 32x32 images, 10 classes, 11.17 M parameters."""
    layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    in_channels = 64
    for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(in_channels, channels, stride), BasicBlock(channels, channels, 1)]
        in_channels = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class Bottleneck(nn.Module):
    def __init__(self, in_channels, channels, stride):
        super().__init__()

        def conv_norm(in_channels, channels, kernel, stride):
            return nn.Sequential(nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False),
                                 nn.BatchNorm2d(channels))

        self.reduce = conv_norm(in_channels, channels, 1, 1)
        self.middle = conv_norm(channels, channels, 3, stride)
        self.expand = conv_norm(channels, 4 * channels, 1, 1)
        self.shortcut = None
        if stride != 1 or in_channels != 4 * channels:
            self.shortcut = conv_norm(in_channels, 4 * channels, 1, stride)

    def forward(self, x):
        y = F.relu(self.reduce(x), inplace=True)
        y = self.expand(F.relu(self.middle(y), inplace=True))
        y += x if self.shortcut is None else self.shortcut(x)
        return F.relu(y, inplace=True)


def resnet50():
    """3x224x224, 1000 classes, the stride in the 3x3 (torchvision's form), 25.56 M parameters."""
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    in_channels = 64
    for channels, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            layers.append(Bottleneck(in_channels, channels, stride if i == 0 else 1))
            in_channels = 4 * channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


def attention(q, k, v):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    T = q.shape[2]      # PyTorch 1, which Debian 12 has
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, float("-inf")).softmax(3) @ v


class GPTBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.fcproj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2)
                   for t in self.qkv(self.ln1(x)).split(C, dim=2))
        y = attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.fcproj(F.gelu(self.fc(self.ln2(x)), approximate="tanh"))


class GPT(nn.Module):
    """GPT-2: learned positions, pre-norm blocks, tanh gelu, biases, the head tied to the embedding, no dropout."""

    def __init__(self, layers, width, heads, vocab, context):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(GPTBlock(width, heads) for _ in range(layers))
        self.ln = nn.LayerNorm(width)
        self.register_buffer("positions", torch.arange(context), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(self.positions[:tokens.shape[1]])
        for block in self.blocks:
            x = block(x)
        return F.linear(self.ln(x), self.wte.weight)


def chargpt():
    return GPT(layers=6, width=384, heads=6, vocab=65, context=256)


def gpt2():
    return GPT(layers=12, width=768, heads=12, vocab=50257, context=1024)


def gpt2_124m():
    return GPT(layers=12, width=768, heads=12, vocab=50304, context=1024)


def gpt2_350m():
    return GPT(layers=24, width=1024, heads=16, vocab=50304, context=1024)
