"""Table 1: do semantics and robustness survive the transfer to CIFAR-10?

Six rows fine-tune the full network, five the classifier on fixed features. A network that saw clean images only, or
one sigma only, loses one of the two; mixed noise keeps both, after one clean epoch already. Needs the pretraining set
and cifar10.

    python examples/reproduce/table1.py --data tiny-imagenet-32=FOLDER --data cifar10=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "table1", *sys.argv[1:]])
