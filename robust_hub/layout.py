"""The files of a checkpoint's folder: their names, and which of them go to the Hub and come from it.

Files::

    config.json                                    what the network is, how its weights came about, their hashes
    model.safetensors                              the weights, or model-00001-of-00002.safetensors and so on,
    model.safetensors.index.json                   with their index,
    difference.safetensors.zlib                    or a difference to another checkpoint in their place
    certification/<data>_sigma_<sigma>/            records.tsv and run.json of what was certified
    training/                                      log.jsonl, speed.json, under_noise.json of what made it
    README.md, curves.png                          the model card
"""

from __future__ import annotations

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DIFFERENCE = "difference.safetensors.zlib"
CERTIFICATION, RECORDS, RUN = "certification", "records.tsv", "run.json"
TRAINING, LOG, SPEED, UNDER_NOISE = "training", "log.jsonl", "speed.json", "under_noise.json"
CARD, PICTURE = "README.md", "curves.png"

# Beside config.json and the weights, what is sent; the rest of a folder stays at home.
SENT = (
    *(f"{CERTIFICATION}/*/{RECORDS}", f"{CERTIFICATION}/*/{RUN}"),
    *(f"{TRAINING}/*.jsonl", f"{TRAINING}/*.json"),
)
FETCHED = (CONFIG, INDEX, "model*.safetensors", f"{CERTIFICATION}/*", f"{TRAINING}/*", "*.md", "*.png")
