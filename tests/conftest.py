"""One thread a test: small tensors gain nothing from more, and threads of several processes wait for one another."""

import torch

torch.set_num_threads(1)
