"""Table 6: which normalisation layer lets robustness survive clean fine-tuning?

Batch norm mixes the statistics of clean and noisy images in pretraining and has clean ones only afterwards; instance,
group and layer norm see one image at a time. Four pretrainings. Needs the pretraining set and cifar10.

    python examples/reproduce/table6.py --data tiny-imagenet-32=FOLDER --data cifar10=FOLDER

`--scale small | h200 | paper` chooses network and budget, `--out` the folder, where the same call goes on.
"""

import sys

from robust_hub.cli import main

main(["reproduce", "table6", *sys.argv[1:]])
