"""Table 4: training from scratch on CIFAR-10 against one clean epoch after mixed-noise pretraining.

Needs the pretraining set and cifar10.

    python examples/reproduce/table4.py --data tiny-imagenet-32=FOLDER --data cifar10=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "table4", *sys.argv[1:]])
