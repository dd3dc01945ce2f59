"""Table 9: Food-101.

Needs the pretraining set and food101, resized to 32x32.

    python examples/reproduce/table9.py --data tiny-imagenet-32=FOLDER --data food101=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "table9", *sys.argv[1:]])
