"""Table 7: CIFAR-100 from scratch against one clean epoch after mixed-noise pretraining.

Needs the pretraining set and cifar100.

    python examples/reproduce/table7.py --data tiny-imagenet-32=FOLDER --data cifar100=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "table7", *sys.argv[1:]])
