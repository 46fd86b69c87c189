# SPDX-License-Identifier: Apache-2.0
"""A Lightning Trainer (on the CPU unless told otherwise) that prints nothing, and batches that cost nothing."""
import logging
import warnings

import lightning

warnings.filterwarnings("ignore")
for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
    logging.getLogger(name).setLevel(logging.ERROR)


class Repeat:
    """The same batch `count` times. (Lightning takes a plain list for a list of loaders.)"""

    def __init__(self, batch, count):
        self.batch, self.count = batch, count

    def __len__(self):
        return self.count

    def __iter__(self):
        for _ in range(self.count):
            yield self.batch


def trainer(**options):
    return lightning.Trainer(**{"accelerator": "cpu", "devices": 1, **options})
