"""Weights and their model card: find, download, publish.

What a checkpoint holds, and the network built from it, is in `fever_extract.models`.
"""

from fever_extract.hub.download import HubOptions, load

__all__ = ["HubOptions", "load"]
