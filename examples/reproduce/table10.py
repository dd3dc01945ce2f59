"""Table 10: Flowers-102.

Needs the pretraining set and flowers102, resized to 32x32.

    python examples/reproduce/table10.py --data tiny-imagenet-32=FOLDER --data flowers102=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "table10", *sys.argv[1:]])
