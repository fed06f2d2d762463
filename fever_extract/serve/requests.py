"""A request's body to named images: multipart, JSON with base64, or the image itself."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

Image = tuple[str, bytes]
"""An image's name, and its encoded bytes."""

_EXAMPLE = "curl -F images=@a.jpg -F images=@b.jpg"

BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {
                    "images": {"type": "array", "items": {"type": "string", "format": "binary"}}
                },
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {
                    "images": {
                        "type": "array",
                        "items": {"type": "string", "format": "byte"},
                        "description": "encoded images in base64",
                    }
                },
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}
"""The body in OpenAPI's terms."""


class _InMemory(MultiPartParser):
    spool_max_size = 2**62  # photographs are not written to a disk


async def read_images(request: Request, max_images: int) -> list[Image]:
    """Read the images of a request, in order.

    Raises:
        HTTPException: 400 if the body is not what its type says, 413 for too many images, 415
            for another type; and whatever reading the body raises.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        images = await _of_form(request, max_images)
    elif kind == "application/json":
        images = _of_json(await request.body())
    elif kind.startswith("image/") or kind == "application/octet-stream":
        body = await request.body()
        images = [("0", body)] if body else []
    else:
        raise HTTPException(
            415,
            f"send multipart/form-data ({_EXAMPLE}), application/json with images in base64, or "
            f"an image, not {kind or 'a body without Content-Type'}",
        )
    if not images:
        raise HTTPException(400, f"there is no image in the request: {_EXAMPLE}")
    if len(images) > max_images:
        raise HTTPException(413, f"a request may have {max_images} images, not {len(images)}")
    return images


async def _of_form(request: Request, max_images: int) -> list[Image]:
    parser = _InMemory(request.headers, request.stream(), max_files=max_images + 1, max_fields=1)
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:  # the second from older Starlettes
        reason = getattr(error, "message", str(error))
        if reason.startswith("Too many files"):
            raise HTTPException(413, f"a request may have {max_images} images") from None
        raise HTTPException(400, f"the form can't be read: {reason}") from None
    images: list[Image] = []
    for name, part in form.multi_items():
        if not isinstance(part, UploadFile):
            raise HTTPException(400, f"field {name!r:.60} is no file: {_EXAMPLE}")
        images.append((part.filename or str(len(images)), await part.read()))
    await form.close()
    return images


def _of_json(body: bytes) -> list[Image]:
    try:
        content = json.loads(body)
        images = content["images"]
        if not isinstance(images, list) or not all(isinstance(one, str) for one in images):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise HTTPException(
            400, 'expected a JSON object {"images": [base64, ...]} with encoded images'
        ) from None
    return [(str(index), _decode(one)) for index, one in enumerate(images)]


def _decode(text: str) -> bytes:
    """Decode base64, of a data URL too; what is none stays as it is, and is no image then."""
    _, comma, encoded = text.partition(";base64,")
    try:
        return base64.b64decode(encoded if comma else text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode("utf-8", "replace")
