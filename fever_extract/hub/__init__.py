"""Find, download and publish weights, and write the model card that goes with them.

What a checkpoint holds, and the network built from it, is in `fever_extract.models`.
"""

from fever_extract.hub.download import HubOptions, load

__all__ = ["HubOptions", "load"]
