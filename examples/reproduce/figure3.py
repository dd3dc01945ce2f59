r"""Figure 3: certified accuracy over the radius on Pets, Food-101, Flowers-102 and DTD.

Add --plot figure3.png for the picture. Needs the pretraining set and the four, resized to 32x32.

    python examples/reproduce/figure3.py --data tiny-imagenet-32=FOLDER --data pets=FOLDER \
        --data food101=FOLDER --data flowers102=FOLDER --data dtd=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "figure3", *sys.argv[1:]])
