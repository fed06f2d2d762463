"""A z-buffer rasteriser with perspective-correct textures, compiled by numba.

All arrays are C-contiguous and float32 where nothing else is said. A scene's vertices have
attributes (`ATTRIBUTES` columns): the normal (3), how open to light it is, how much beard grows
there, and where the key light sees it (x and y in its shadow map, and closeness).
"""
# This module imports numba, an extra: import it late.

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

ATTRIBUTES = 8

# Columns of materials.
TEXTURE, MODE, RED, GREEN, BLUE, GLOSS, HARDNESS, WRAP, TONE, TWO_SIDED, CUT = range(11)
BEARD, BEARD_RED, BEARD_GREEN, BEARD_BLUE, LIP_RED, LIP_GREEN, LIP_BLUE, FRECKLES = range(11, 19)
COLUMNS = 19
# Modes: the texture times a colour; skin, whose alpha says where lips are; hair, in a colour of its
# own by the texture's light and shade.
PLAIN, SKIN, HAIR = 0, 1, 2

# A float32 with a Python number is a float64 to numba.
_ONE = np.float32(1)

_compiled = njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
_inlined = njit(inline="always", fastmath=True, error_model="numpy")


@_compiled
def mix(strengths: Any, offsets: Any) -> Any:
    """Add up offsets ``(n, v, 3)`` by their strengths ``(n,)``, most of which are 0."""
    out = np.zeros(offsets.shape[1:], np.float32)
    for row in range(len(strengths)):
        strength = strengths[row]
        if strength != 0:
            for v in range(offsets.shape[1]):
                for axis in range(3):
                    out[v, axis] += strength * offsets[row, v, axis]
    return out


@_compiled
def normals_of(vertices: Any, triangles: Any) -> Any:
    """Compute unit normals ``(v, 3)`` of vertices, weighted by the triangles' areas."""
    out = np.zeros_like(vertices)
    for t in range(len(triangles)):
        i, j, k = triangles[t]
        ax, ay, az = (vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1],
                      vertices[j, 2] - vertices[i, 2])  # fmt: skip
        bx, by, bz = (vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1],
                      vertices[k, 2] - vertices[i, 2])  # fmt: skip
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for corner in (i, j, k):
            out[corner, 0] += nx
            out[corner, 1] += ny
            out[corner, 2] += nz
    for v in range(len(out)):
        length = np.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2) + np.float32(1e-12)
        out[v, 0] /= length
        out[v, 1] /= length
        out[v, 2] /= length
    return out


@_compiled
def creases(vertices: Any, rest: Any, edges: Any) -> Any:
    """Compute by how much the edges at each vertex ``(v,)`` are shorter than at rest, 0 to 1.

    Skin that is pressed together folds, which the mesh is too coarse to show.
    """
    now = np.zeros(len(vertices), np.float32)
    before = np.full(len(vertices), 1e-6, np.float32)
    for e in range(len(edges)):
        i, j = edges[e]
        a, b = np.float32(0), np.float32(0)
        for axis in range(3):
            a += (vertices[i, axis] - vertices[j, axis]) ** 2
            b += (rest[i, axis] - rest[j, axis]) ** 2
        a, b = np.sqrt(a), np.sqrt(b)
        now[i] += a
        now[j] += a
        before[i] += b
        before[j] += b
    return np.minimum(np.maximum(1 - now / before, 0), 1)


@_inlined
def _alpha(textures: Any, layer: int, u: float, v: float) -> Any:
    side = textures.shape[1]
    x = min(max(int(u * side), 0), side - 1)
    y = min(max(int((1 - v) * side), 0), side - 1)
    return textures[layer, y, x, 3] * (1 / 255)


@_compiled
def rasterise(
    x: Any, y: Any, near: Any, triangles: Any, uv: Any, kinds: Any, materials: Any,
    textures: Any, depth: Any, ids: Any,
) -> None:  # fmt: skip
    """Draw what is opaque into a z-buffer.

    Args:
        x, y: ``(v,)`` in the buffer's pixels; ``near`` is 1 / distance.
        triangles: ``(t, 3)`` int32; seen from the front they turn counterclockwise.
        uv: ``(t, 3, 2)``.
        kinds: ``(t,)`` int32, rows of ``materials``.
        textures: ``(n, side, side, 4)`` uint8; where a material's ``CUT`` is above 0, what is less
            opaque than that is left out.
        depth, ids: ``(h, w)``, float32 and int32, changed: the nearest triangle.
    """
    height, width = depth.shape
    for t in range(len(triangles)):
        i, j, k = triangles[t]
        x0, y0, x1, y1, x2, y2 = x[i], y[i], x[j], y[j], x[k], y[k]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        kind = kinds[t]
        if area == 0 or (area > 0 and materials[kind, TWO_SIDED] == 0):
            continue
        left, right = max(int(min(x0, x1, x2)), 0), min(int(max(x0, x1, x2)) + 1, width - 1)
        top, bottom = max(int(min(y0, y1, y2)), 0), min(int(max(y0, y1, y2)) + 1, height - 1)
        cut, layer = materials[kind, CUT], int(materials[kind, TEXTURE])
        z0, z1, z2 = near[i], near[j], near[k]
        scale = 1 / area
        for row in range(top, bottom + 1):
            py = row + np.float32(0.5)
            for column in range(left, right + 1):
                px = column + np.float32(0.5)
                b1 = ((px - x0) * (y2 - y0) - (x2 - x0) * (py - y0)) * scale
                b2 = ((x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)) * scale
                b0 = 1 - b1 - b2
                if b0 < 0 or b1 < 0 or b2 < 0:
                    continue
                z = b0 * z0 + b1 * z1 + b2 * z2
                if z <= depth[row, column]:
                    continue
                if cut > 0:
                    b0, b1, b2 = b0 * z0 / z, b1 * z1 / z, b2 * z2 / z
                    u = b0 * uv[t, 0, 0] + b1 * uv[t, 1, 0] + b2 * uv[t, 2, 0]
                    v = b0 * uv[t, 0, 1] + b1 * uv[t, 1, 1] + b2 * uv[t, 2, 1]
                    if _alpha(textures, layer, u, v) < cut:
                        continue
                depth[row, column] = z
                ids[row, column] = t


@_compiled
def _colour(
    t: int, px: float, py: float, x: Any, y: Any, near: Any, attributes: Any, triangles: Any,
    uv: Any, material: Any, textures: Any, noise: Any, ambient: Any, lights: Any, shadow: Any,
    out: Any,
) -> None:  # fmt: skip
    """Shade a point of a triangle into ``out``: linear red, green, blue, and alpha."""
    i, j, k = triangles[t]
    x0, y0, x1, y1, x2, y2 = x[i], y[i], x[j], y[j], x[k], y[k]
    scale = _ONE / ((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0))
    b1 = ((px - x0) * (y2 - y0) - (x2 - x0) * (py - y0)) * scale
    b2 = ((x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)) * scale
    b0 = (_ONE - b1 - b2) * near[i]
    b1, b2 = b1 * near[j], b2 * near[k]
    scale = _ONE / (b0 + b1 + b2)
    b0, b1, b2 = b0 * scale, b1 * scale, b2 * scale
    u = b0 * uv[t, 0, 0] + b1 * uv[t, 1, 0] + b2 * uv[t, 2, 0]
    v = b0 * uv[t, 0, 1] + b1 * uv[t, 1, 1] + b2 * uv[t, 2, 1]
    nx = b0 * attributes[i, 0] + b1 * attributes[j, 0] + b2 * attributes[k, 0]
    ny = b0 * attributes[i, 1] + b1 * attributes[j, 1] + b2 * attributes[k, 1]
    nz = b0 * attributes[i, 2] + b1 * attributes[j, 2] + b2 * attributes[k, 2]
    openness = b0 * attributes[i, 3] + b1 * attributes[j, 3] + b2 * attributes[k, 3]
    beard = b0 * attributes[i, 4] + b1 * attributes[j, 4] + b2 * attributes[k, 4]
    scale = _ONE / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9))
    if material[TWO_SIDED] > 0 and nz < 0:
        scale = -scale
    nx, ny, nz = nx * scale, ny * scale, nz * scale

    # The texture, bilinear.
    side, layer = textures.shape[1], int(material[TEXTURE])
    fx = min(max(u * np.float32(side) - np.float32(0.5), np.float32(0)), np.float32(side - 1.001))
    fy = min(
        max((_ONE - v) * np.float32(side) - np.float32(0.5), np.float32(0)),
        np.float32(side - 1.001),
    )
    ix, iy = int(fx), int(fy)
    fx, fy = fx - np.float32(ix), fy - np.float32(iy)
    for c in range(4):
        upper = textures[layer, iy, ix, c] * (_ONE - fx) + textures[layer, iy, ix + 1, c] * fx
        lower = (
            textures[layer, iy + 1, ix, c] * (_ONE - fx) + textures[layer, iy + 1, ix + 1, c] * fx
        )
        out[c] = (upper * (_ONE - fy) + lower * fy) * np.float32(1 / 255)
    mode, gloss = material[MODE], material[GLOSS]
    if mode == HAIR:
        bright = (out[0] + out[1] + out[2]) / (np.float32(3) * material[TONE])
        bright = min(np.float32(0.35) + np.float32(0.65) * bright, np.float32(1.9))
        for c in range(3):
            out[c] = material[RED + c] * bright
    else:
        for c in range(3):
            out[c] = out[c] * out[c] * material[RED + c]
    if mode == SKIN:
        lips, out[3] = out[3], np.float32(1)
        grain, size = np.float32(1), noise.shape[0]
        fine = noise[int(v * 9 * size) % size, int(u * 9 * size) % size]
        coarse = noise[int(v * 2 * size) % size, int(u * 2 * size) % size]
        grain += material[FRECKLES] * (np.float32(0.07) * fine + np.float32(0.05) * coarse)
        hairs = beard * material[BEARD] * (_ONE - lips)
        hairs = min(
            max(hairs * (np.float32(0.9) + np.float32(0.8) * fine), np.float32(0)), np.float32(0.95)
        )
        for c in range(3):
            tinted = out[c] * grain * (_ONE - lips + lips * material[LIP_RED + c])
            out[c] = tinted * (_ONE - hairs) + material[BEARD_RED + c] * hairs
        gloss = gloss * (_ONE + lips) * (_ONE - hairs)

    lit = np.float32(1)
    if len(shadow) > 1:
        sx = b0 * attributes[i, 5] + b1 * attributes[j, 5] + b2 * attributes[k, 5]
        sy = b0 * attributes[i, 6] + b1 * attributes[j, 6] + b2 * attributes[k, 6]
        sz = b0 * attributes[i, 7] + b1 * attributes[j, 7] + b2 * attributes[k, 7]
        # What is seen from the side by the light would cast shadows on itself.
        cosine = nx * lights[0, 0] + ny * lights[0, 1] + nz * lights[0, 2]
        sine = np.sqrt(max(_ONE - cosine * cosine, np.float32(0)))
        sz += np.float32(0.03) * sine / max(cosine, np.float32(0.12))
        lit = np.float32(0)
        for tap in range(4):
            row = int(sy + np.float32(1.5) * (tap // 2) - np.float32(0.75))
            column = int(sx + np.float32(1.5) * (tap % 2) - np.float32(0.75))
            row = min(max(row, 0), shadow.shape[0] - 1)
            column = min(max(column, 0), shadow.shape[1] - 1)
            lit += np.float32(0.25) * (sz >= shadow[row, column])

    # The sky above, the ground below, and lights that reach round the edge (in skin red most).
    up = ny * np.float32(0.5) + np.float32(0.5)
    red = (ambient[0, 0] * up + ambient[1, 0] * (_ONE - up)) * openness
    green = (ambient[0, 1] * up + ambient[1, 1] * (_ONE - up)) * openness
    blue = (ambient[0, 2] * up + ambient[1, 2] * (_ONE - up)) * openness
    shine_red, shine_green, shine_blue = np.float32(0), np.float32(0), np.float32(0)
    wrap = material[WRAP]
    for light in range(len(lights)):
        facing = nx * lights[light, 0] + ny * lights[light, 1] + nz * lights[light, 2]
        strength = openness * (lit if light == 0 else np.float32(1))
        round_edge = max((facing + wrap) / (_ONE + wrap), np.float32(0)) * strength
        more = wrap * np.float32(1.6)
        red += lights[light, 3] * max((facing + more) / (_ONE + more), np.float32(0)) * strength
        green += lights[light, 4] * round_edge
        blue += lights[light, 5] * round_edge
        half = nx * lights[light, 6] + ny * lights[light, 7] + nz * lights[light, 8]
        if half > 0 and facing > 0 and gloss > 0:
            for _ in range(int(material[HARDNESS])):
                half = half * half
            half = half * gloss * strength
            shine_red += lights[light, 3] * half
            shine_green += lights[light, 4] * half
            shine_blue += lights[light, 5] * half
    out[0] = out[0] * red + shine_red
    out[1] = out[1] * green + shine_green
    out[2] = out[2] * blue + shine_blue


@_compiled
def shade(
    picture: Any, depth: Any, ids: Any, x: Any, y: Any, near: Any, attributes: Any,
    triangles: Any, uv: Any, kinds: Any, materials: Any, textures: Any, noise: Any, ambient: Any,
    lights: Any, shadow: Any,
) -> None:  # fmt: skip
    """Colour the pixels of a z-buffer.

    Args:
        picture: ``(h, w, 3)`` of linear light, changed.
        depth, ids: ``(h, w)`` of `rasterise`, even h and w; -1 is the background, which stays.
        attributes: ``(v, ATTRIBUTES)``.
        noise: ``(s, s)``, about -1 to 1, of skin and beard.
        ambient: ``(2, 3)``, light from above and below.
        lights: ``(n, 9)``: direction to it, its colour, and the direction half way to the camera.
            Of the first, shadows are cast.
        shadow: ``(s, s)``, closeness to the first light; ``(1, 1)`` for none.
    """
    out = np.empty(4, np.float32)
    half, whole = np.float32(0.5), np.float32(1)
    for block_row in range(0, ids.shape[0], 2):
        for block_column in range(0, ids.shape[1], 2):
            alike = _alike(ids, depth, kinds, materials, block_row, block_column)
            for pixel in range(4):
                row, column = block_row + pixel // 2, block_column + pixel % 2
                t = ids[row, column]
                if t < 0:
                    continue
                if pixel == 0 or not alike:
                    middle = whole if alike else half
                    _colour(
                        t, np.float32(column) + middle, np.float32(row) + middle, x, y, near,
                        attributes, triangles, uv, materials[kinds[t]], textures, noise, ambient,
                        lights, shadow, out,
                    )  # fmt: skip
                for c in range(3):
                    picture[row, column, c] = out[c]


@_inlined
def _alike(ids: Any, depth: Any, kinds: Any, materials: Any, row: int, column: int) -> Any:
    """Tell whether four pixels show one smooth piece of skin, which is shaded but once."""
    near, far = depth[row, column], depth[row, column]
    for pixel in range(4):
        t = ids[row + pixel // 2, column + pixel % 2]
        if t < 0 or materials[kinds[t], MODE] != SKIN:
            return False
        z = depth[row + pixel // 2, column + pixel % 2]
        near, far = max(near, z), min(far, z)
    return near - far < np.float32(0.08) * far * far


@_compiled
def blend(
    picture: Any, depth: Any, ids: Any, order: Any, x: Any, y: Any, near: Any, attributes: Any,
    triangles: Any, uv: Any, kinds: Any, materials: Any, textures: Any, noise: Any, ambient: Any,
    lights: Any, shadow: Any,
) -> None:  # fmt: skip
    """Lay half transparent triangles over a coloured picture, in an order from far to near.

    Args:
        order: ``(m,)`` int64, the triangles; the others are as for `rasterise` and `shade`.
    """
    height, width = depth.shape
    out = np.empty(4, np.float32)
    for t in order:
        i, j, k = triangles[t]
        x0, y0, x1, y1, x2, y2 = x[i], y[i], x[j], y[j], x[k], y[k]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        left, right = max(int(min(x0, x1, x2)), 0), min(int(max(x0, x1, x2)) + 1, width - 1)
        top, bottom = max(int(min(y0, y1, y2)), 0), min(int(max(y0, y1, y2)) + 1, height - 1)
        material = materials[kinds[t]]
        layer = int(material[TEXTURE])
        scale = 1 / area
        for row in range(top, bottom + 1):
            py = row + np.float32(0.5)
            for column in range(left, right + 1):
                px = column + np.float32(0.5)
                b1 = ((px - x0) * (y2 - y0) - (x2 - x0) * (py - y0)) * scale
                b2 = ((x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)) * scale
                b0 = 1 - b1 - b2
                if b0 < 0 or b1 < 0 or b2 < 0 or ids[row, column] == t:
                    continue
                z = b0 * near[i] + b1 * near[j] + b2 * near[k]
                if z <= depth[row, column]:
                    continue
                b0, b1, b2 = b0 * near[i] / z, b1 * near[j] / z, b2 * near[k] / z
                u = b0 * uv[t, 0, 0] + b1 * uv[t, 1, 0] + b2 * uv[t, 2, 0]
                v = b0 * uv[t, 0, 1] + b1 * uv[t, 1, 1] + b2 * uv[t, 2, 1]
                if _alpha(textures, layer, u, v) < np.float32(0.02):
                    continue
                _colour(
                    t, np.float32(px), np.float32(py), x, y, near, attributes, triangles, uv,
                    material, textures, noise,
                    ambient, lights, shadow, out,
                )  # fmt: skip
                for c in range(3):
                    picture[row, column, c] += out[3] * (out[c] - picture[row, column, c])
