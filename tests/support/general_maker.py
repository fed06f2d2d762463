"""What `fever_extract.training.general` reads, made up: tables, a teacher, an init."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from faces_maker import NAMES, make_tables, rows, write
from safetensors.torch import save_file

from fever_extract.models import checkpoint
from fever_extract.models.config import Backbone, Config, Preprocessing
from fever_extract.models.network import FeverNet
from fever_extract.training.trainer.start import TEMPLATE

WEB = "teacher.safetensors"
LABELS = ["neutral", "happiness"]


def make_general_tables(root: Path) -> Path:
    """The tables of `make_tables`, labels for 32 of 40 faces, 24 synthetic faces, 6 portraits."""
    make_tables(root)
    names = pq.read_table(root / "faces.parquet", columns=["name"])["name"].to_pylist()[:32]
    labels = [LABELS[row % 4 == 0] for row in range(32)]
    parts = ["transfer" if row % 4 == 3 else "train" for row in range(32)]
    pq.write_table(
        pa.table({"name": names, "label": labels, "part": parts}), root / "faces_labels.parquet"
    )
    synthetic, portraits = rows(24, 128), rows(6, 100)
    for columns in (synthetic, portraits):
        del columns["happy"]
    del portraits["blendshapes"]
    random = np.random.default_rng(2)
    expressions = random.random((12, len(NAMES))).astype(np.float32)
    synthetic |= {
        # The second of a pair comes twelve rows after the first; of one pair it is missing.
        "expression_id": [row % 12 for row in range(23)] + [99],
        "person_id": [row + 1 for row in range(24)],
        "blendshapes": [expressions[row % 12] for row in range(24)],
        "recipe": [[*LABELS, None][row % 3] for row in range(24)],
    }
    write(root / "synthetic.parquet", synthetic)
    portraits["blendshapes"] = [None] * 6
    write(root / "portraits.parquet", portraits)
    save_file(web_tensors(), root / WEB)
    return root


def web_tensors() -> dict[str, torch.Tensor]:
    """Random tensors of face-api's expression network."""
    generator, tensors, width = torch.Generator().manual_seed(0), {}, 3
    for block, next_width in enumerate((32, 64, 128, 256)):
        for index in range(4):
            name = f"dense{block}.conv{index}"
            shapes = {"depthwise_filter": (width, 1, 3, 3)}
            shapes["pointwise_filter"] = (next_width, width, 1, 1)
            if block == index == 0:
                shapes = {"filters": (next_width, 3, 3, 3)}
            for part, shape in {**shapes, "bias": (next_width,)}.items():
                tensors[f"{name}.{part}"] = torch.randn(shape, generator=generator) / 8
            width = next_width
    tensors["fc.weights"] = torch.randn(256, 7, generator=generator) / 8
    tensors["fc.bias"] = torch.zeros(7)
    return tensors


def make_init(folder: Path) -> Path:
    """Weights of a MobileNet that has seen noise, for crops of 32 pixels."""
    preprocessing = Preprocessing(32, "grey", (128.0,), (64.0,), TEMPLATE)
    config = Config(
        "first",
        preprocessing,
        Backbone("mobilenet_v1", (), ()),
        embedding_dim=8,
        blendshapes=tuple(NAMES),
    )
    torch.manual_seed(1)
    network = FeverNet(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # its statistics become those of the one batch
    network.train()
    network(torch.rand(64, 1, 32, 32) * 255)
    checkpoint.save(folder, config, network.state_dict())
    return folder
