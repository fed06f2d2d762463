"""Errors for pictures without a usable face, worded alike in every implementation."""

from __future__ import annotations

from fever_extract.records import ExtractionError, Status


def too_small(height: int, width: int, smallest: float) -> ExtractionError:
    """A picture that is smaller than the faces that are looked for."""
    return ExtractionError(
        Status.TOO_SMALL,
        f"the picture is {width}x{height} pixels; faces under {smallest:.0f} pixels are "
        "not looked for (min_face_size)",
    )


def no_face(smallest: float, min_confidence: float) -> ExtractionError:
    """A picture in which no face was found."""
    return ExtractionError(
        Status.NO_FACE,
        f"no face of {smallest:.0f} pixels or more found with a confidence of "
        f"{min_confidence} or more",
    )


def failed(error: Exception) -> ExtractionError:
    """A picture on which the detector failed."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ExtractionError(Status.DETECT_ERROR, f"detection failed: {reason}")
