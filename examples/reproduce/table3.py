"""Table 3: the method's own row of the comparison on CIFAR-10.

One network certified at three sigmas, best sigma per radius. The other rows of the paper's table are other
papers' networks and are not trained here. Needs the pretraining set and cifar10.

    python examples/reproduce/table3.py --data tiny-imagenet-32=FOLDER --data cifar10=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "table3", *sys.argv[1:]])
