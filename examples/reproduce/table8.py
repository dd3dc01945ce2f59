"""Table 8: Oxford-IIIT Pets.

Needs the pretraining set and pets, resized to 32x32.

    python examples/reproduce/table8.py --data tiny-imagenet-32=FOLDER --data pets=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "table8", *sys.argv[1:]])
