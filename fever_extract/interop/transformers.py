"""The network as a model of Hugging Face transformers; importing this registers it.

    import fever_extract.interop.transformers
    model = AutoModel.from_pretrained("ORG/NAME")
    processor = AutoImageProcessor.from_pretrained("ORG/NAME")
    embeddings = model(**processor(images, return_tensors="pt")).pooler_output

No code is downloaded and none has to be trusted: it is this package's. The folder or repository
is one of `Extractor.save_pretrained` or `push_to_hub`, which has the two files that transformers
looks for, ``config.json`` and ``preprocessor_config.json``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    BaseImageProcessor,
    BatchFeature,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import ModelOutput

from fever_extract import alignment
from fever_extract.detection.detector import Detector
from fever_extract.detection.parameters import smallest_face
from fever_extract.hub.download import HubOptions, load
from fever_extract.images import ImageLike, is_single, read
from fever_extract.models import checkpoint
from fever_extract.models.config import MODEL_TYPE, Config, Preprocessing
from fever_extract.models.network import FeverNet
from fever_extract.records import ExtractionError

if TYPE_CHECKING:
    import numpy.typing as npt


class FeverConfig(PretrainedConfig):  # type: ignore[misc]
    """A checkpoint's ``config.json``, by its own names."""

    model_type = MODEL_TYPE

    def ours(self) -> Config:
        """The same as the package has it; checked."""
        names = {item.name for item in dataclasses.fields(Config)}
        values = {name: value for name, value in self.to_dict().items() if name in names}
        return Config.from_json(json.dumps(values))


@dataclass
class FeverOutput(ModelOutput):  # type: ignore[misc]
    """What the network says of n crops.

    Attributes:
        pooler_output: embeddings ``(n, d)``.
        expression, blendshapes, valence_arousal: as in `fever_extract.models.network.Output`;
            None if the weights have no such head.
    """

    pooler_output: torch.Tensor | None = None
    expression: torch.Tensor | None = None
    blendshapes: torch.Tensor | None = None
    valence_arousal: torch.Tensor | None = None


class FeverModel(PreTrainedModel):  # type: ignore[misc]
    """Aligned crops to embeddings and the heads' outputs.

    Args:
        config: the architecture.
    """

    config_class = FeverConfig
    base_model_prefix = "network"
    main_input_name = "pixel_values"

    def __init__(self, config: FeverConfig) -> None:
        super().__init__(config)
        self.network = FeverNet(config.ours())
        self.post_init()

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str], *arguments: Any, **options: Any
    ) -> FeverModel:
        """Load by this package's own reader, which checks all of the file.

        Args:
            source: a folder or a Hub repository.
            arguments: none.
            options: ``revision``, ``cache_dir``, ``token``, ``local_files_only`` and ``dtype``;
                ``config``, which is read again, ``trust_remote_code``, of which there is none, and
                whatever transformers leaves empty.

        Raises:
            TypeError: for any other option.
        """
        for name in ("config", "trust_remote_code", "use_safetensors"):
            options.pop(name, None)
        dtype = options.pop("dtype", options.pop("torch_dtype", None))
        names = [item.name for item in dataclasses.fields(HubOptions)]
        hub = {name: options.pop(name) for name in names if options.get(name) is not None}
        unknown = sorted(
            name for name, value in options.items() if value not in (None, False, "", "main")
        )
        if arguments or unknown:
            raise TypeError(f"FeverModel.from_pretrained has no option {', '.join(unknown)}")
        weights = load(source, HubOptions(**hub))
        values = json.loads(weights.config.to_json())
        model = cls(FeverConfig(**values))
        model.network.load_state_dict(weights.state_dict)
        if dtype not in (None, "auto"):
            model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
        model.eval()
        return model

    def save_pretrained(self, save_directory: str | os.PathLike[str], *_: Any, **__: Any) -> None:
        """Write what `from_pretrained` and `fever_extract.Extractor` read.

        Args:
            save_directory: made if it does not exist. How transformers would split or store the
                weights does not matter: they are one safetensors file.
        """
        # By transformers, they would have other names, which the package does not know.
        checkpoint.save(save_directory, self.config.ours(), self.network.state_dict())

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> FeverOutput:
        """Crops ``(n, 3, size, size)``, 0 to 255, as the processor makes them."""
        output = self.network(pixel_values)
        return FeverOutput(pooler_output=output.embedding, **output.heads)


class FeverImageProcessor(BaseImageProcessor):  # type: ignore[misc]
    """Photographs to aligned crops: the largest face of each.

    Args:
        preprocessing: that of a checkpoint's ``config.json``.
        aligned: the images are aligned face crops already.
        options: of transformers.
    """

    model_input_names = ("pixel_values",)

    def __init__(
        self, preprocessing: dict[str, Any] | None = None, aligned: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self.preprocessing = preprocessing
        self.aligned = aligned

    def preprocess(
        self,
        images: ImageLike | Iterable[ImageLike],
        return_tensors: str | None = None,
        aligned: bool | None = None,
        **_: Any,
    ) -> BatchFeature:
        """Find, align and cut out.

        Args:
            images: one or many: paths, files' bytes, PIL images or uint8 RGB arrays.
            return_tensors: ``"pt"``, ``"np"`` or None.
            aligned: in place of the processor's own.

        Returns:
            ``pixel_values`` ``(n, 3, size, size)`` float32, 0 to 255. Row i is image i: one
            without a face is all NaN, as its embedding then is, and one warning counts them.
        """
        listed: list[ImageLike] = [images] if is_single(images) else list(images)  # type: ignore[arg-type]
        whole = self.aligned if aligned is None else aligned
        crops = [self._crop(image, whole) for image in listed]
        failed = sum(bool(np.isnan(crop[0, 0, 0])) for crop in crops)
        if failed:
            warnings.warn(
                f"{failed} of {len(crops)} images have no face and are rows of NaN", stacklevel=3
            )
        size = self._ours().size
        values = np.stack(crops) if crops else np.zeros((0, 3, size, size), np.float32)
        return BatchFeature({"pixel_values": values}, tensor_type=return_tensors)

    def _ours(self) -> Preprocessing:
        if self.preprocessing is None:
            raise ValueError("use FeverImageProcessor.from_pretrained, which knows the crop")
        values = dict(self.preprocessing)
        return Preprocessing(**{name: _tuples(value) for name, value in values.items()})

    def _crop(self, image: ImageLike, aligned: bool) -> npt.NDArray[np.float32]:
        ours = self._ours()
        none = np.full((3, ours.size, ours.size), np.nan, np.float32)
        try:
            pixels = read(image)
        except ExtractionError:
            return none
        if aligned:
            crop: npt.NDArray[np.float32] = alignment.whole(pixels, ours)[0].numpy()
            return crop
        height, width = pixels.shape[:2]
        smallest = smallest_face(height, width)
        if min(height, width) < smallest:
            return none
        (faces,) = _detector().detect([pixels], [smallest])
        if not len(faces):
            return none
        best = faces.take(faces.order("largest", width, height)[:1])
        crop = alignment.align(pixels, best.landmarks, ours)[0].numpy()
        return crop


@functools.cache
def _detector() -> Detector:
    return Detector("cpu")


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


AutoConfig.register(MODEL_TYPE, FeverConfig, exist_ok=True)
AutoModel.register(FeverConfig, FeverModel, exist_ok=True)
AutoImageProcessor.register(FeverConfig, FeverImageProcessor, exist_ok=True)
