# SPDX-License-Identifier: Apache-2.0
"""Seconds per sample of a shuffled DataLoader, batch 128, over 60,000 uint8 images of 28x28 with labels, normalised.

Variants: per_sample converts and normalises each image in __getitem__ (how it is usually written); bulk gives the
whole batch at once through __getitems__ and normalises it in one go (the best that a DataLoader can do here).
"""
import time

import common
import torch
from torch.utils.data import DataLoader, Dataset

MEAN, STD = 0.2860, 0.3530


class PerSample(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return (self.images[index].float().div_(255).sub_(MEAN).div_(STD).unsqueeze_(0), self.labels[index])


class Bulk(PerSample):
    def __getitems__(self, indices):
        indices = torch.tensor(indices)
        images = self.images[indices].float().mul_(1 / (255 * STD)).sub_(MEAN / STD).unsqueeze_(1)
        return images, self.labels[indices]


def main():
    args = common.arguments(__doc__, ["loader_w0", "loader_w2"], ("per_sample", "bulk"))
    epochs = args.steps or 3
    warmup = args.warmup if args.warmup >= 0 else 1
    images = torch.randint(256, (60000, 28, 28), dtype=torch.uint8)
    labels = torch.randint(10, (60000,))
    workers = int(args.case[-1])
    how = {"num_workers": workers, "persistent_workers": workers > 0}
    if args.variant == "bulk":
        how["collate_fn"] = lambda batch: batch
    data = (Bulk if args.variant == "bulk" else PerSample)(images, labels)
    loader = DataLoader(data, batch_size=128, shuffle=True, **how)

    samples = []
    for epoch in range(warmup + epochs):
        begin, count = time.perf_counter(), 0
        for x, _ in loader:
            count += len(x)
        if epoch >= warmup:
            samples.append((time.perf_counter() - begin) / count)
    common.report(args.case, samples, args.variant)


main()
