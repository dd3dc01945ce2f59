"""Table 5: one sigma in both trainings against mixed noise, on CIFAR-10.

Five pretrainings, the longest of the tables. Needs the pretraining set and cifar10.

    python examples/reproduce/table5.py --data tiny-imagenet-32=FOLDER --data cifar10=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "table5", *sys.argv[1:]])
