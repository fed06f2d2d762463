"""The network and the files it travels in: config, checkpoint, backbones, ONNX.

Where weights come from is in `fever_extract.hub`; how they are made, in `fever_extract.training`.
"""
