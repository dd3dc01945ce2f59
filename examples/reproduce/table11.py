"""Table 11: the Describable Textures Dataset.

Needs the pretraining set and dtd, resized to 32x32.

    python examples/reproduce/table11.py --data tiny-imagenet-32=FOLDER --data dtd=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "table11", *sys.argv[1:]])
