"""The network on a machine without torch: onnxruntime, numpy and Pillow are enough.

For photographs rather than crops, there is `fever-extract export --bundle`: docs/everywhere.md.

Where torch is, once:
    fever-extract export fever.onnx
    fever-extract extract PHOTOS -o features.parquet --save-crops CROPS
Here, on those crops, or on others that are aligned like them:
    python examples/onnx_without_torch.py fever.onnx CROPS/*.jpg
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
config = json.loads(session.get_modelmeta().custom_metadata_map["fever_extract_config"])
size = config["preprocessing"]["size"]

crops = np.stack(
    [
        np.asarray(Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BOX))
        for path in sys.argv[2:]
    ]
)
# (n, 3, size, size) float32, 0 to 255; the rest is inside the file.
crops = crops.transpose(0, 3, 1, 2).astype(np.float32)
embeddings, logits = session.run(["embedding", "expression"], {"crops": crops})

probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
probabilities /= probabilities.sum(axis=1, keepdims=True)
for path, embedding, row in zip(sys.argv[2:], embeddings, probabilities):
    best = row.argmax()
    expression = f"{config['expressions'][best]} {row[best]:.0%}"
    print(f"{path}: {expression}, embedding {embedding[:4].round(3)} ...")
