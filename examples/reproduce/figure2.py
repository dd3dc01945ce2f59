"""Figure 2: certified accuracy over the radius on CIFAR-10 and CIFAR-100, a curve a sigma.

Add --plot figure2.png for the picture. Needs the pretraining set, cifar10 and cifar100.

    python examples/reproduce/figure2.py --data tiny-imagenet-32=FOLDER --data cifar10=FOLDER --data cifar100=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "figure2", *sys.argv[1:]])
