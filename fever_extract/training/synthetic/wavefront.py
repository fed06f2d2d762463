"""Read Wavefront meshes (.obj) as triangles."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Mesh:
    """Triangles of a mesh; quads are split.

    Attributes:
        vertices: ``(v, 3)`` float32.
        uv: ``(t, 3, 2)`` float32, texture coordinates of each triangle's corners; v runs upwards.
        triangles: ``(t, 3)`` int32 into vertices.
        groups: ``(t,)``, the group's name of each triangle.
    """

    vertices: npt.NDArray[np.float32]
    uv: npt.NDArray[np.float32]
    triangles: npt.NDArray[np.int32]
    groups: npt.NDArray[np.str_]


def read_obj(text: str) -> Mesh:
    """Read a mesh from the text of an .obj file.

    Raises:
        ValueError: if it has no faces, or lines that are none of the format.
    """
    vertices: list[list[float]] = []
    uv: list[list[float]] = []
    triangles: list[tuple[int, int, int]] = []
    corners: list[tuple[int, int, int]] = []
    groups: list[str] = []
    group = ""
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(number) for number in rest[:3]])
        elif word == "vt":
            uv.append([float(number) for number in rest[:2]])
        elif word == "g":
            group = rest[0] if rest else ""
        elif word == "f":
            # MakeHuman's triangles in meshes of quads repeat a corner.
            points = list(dict.fromkeys(tuple(f"{corner}/".split("/")[:2]) for corner in rest))
            for second, third in pairwise(points[1:]):
                three = points[0], second, third
                a, b, c = (int(point[0]) - 1 for point in three)
                triangles.append((a, b, c))
                d, e, f = (int(point[1] or 1) - 1 for point in three)
                corners.append((d, e, f))
                groups.append(group)
    if not triangles:
        raise ValueError("the mesh has no faces")
    coordinates = np.array(uv or [[0.0, 0.0]], np.float32)
    return Mesh(
        np.array(vertices, np.float32),
        coordinates[np.array(corners)],
        np.array(triangles, np.int32),
        np.array(groups),
    )
