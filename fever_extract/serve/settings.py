"""`Settings`: the limits of the service, with unit and default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Limits of the service.

    Attributes:
        max_body: bytes of a request; more is refused while it is read (413).
        max_bodies: bytes of all requests that are being read or worked on; more are refused
            (503).
        max_images: images of a request; more are refused (413).
        max_queue: images that wait for the network; requests for more are refused (503).
        max_batch: images that go through the network together.
        max_wait: seconds for which the first image of a batch waits for others.
        timeout: seconds in which a request's body must have come (408).

    Raises:
        ValueError: if one is not positive, or a request could never be taken.
    """

    max_body: int = 32 * 1024**2
    max_bodies: int = 256 * 1024**2
    max_images: int = 32
    max_queue: int = 256
    max_batch: int = 16
    max_wait: float = 0.005
    timeout: float = 60.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (value > 0 or (name == "max_wait" and value == 0)):
                raise ValueError(f"{name} must be more than 0, not {value}")
        for name, other in (("max_images", "max_queue"), ("max_body", "max_bodies")):
            most, least = getattr(self, other), getattr(self, name)
            if most < least:
                raise ValueError(f"{other} must be at least {name}, {least}, not {most}")
