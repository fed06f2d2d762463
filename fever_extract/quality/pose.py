"""Head pose from five landmarks: perspective-n-point on a mean face, by Gauss-Newton.

A mean face in three dimensions is turned, scaled and shifted until its projection comes nearest
to the landmarks, in the sense of least squares. Five points can't tell a person's shape from a
turned head: pitch is the weakest of the angles. `benchmarks/pose.py` measures the error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

MODEL = np.array(
    [(-31, -34, 0), (31, -34, 0), (0, 2, -37), (-27, 33, -10), (27, 33, -10)], np.float64
)
"""The mean face in millimetres: left eye, right eye, nose, left and right mouth corner as seen;
x to the right, y down, z away from the camera. Where the points lie in the plane is the mean of
13,486 photographs of faces (`facial_expressions`, mostly LFW) as MTCNN sees them, with eyes 62 mm
apart; depths are those that fit rendered heads best. `benchmarks/pose.py --fit` makes it again."""
DISTANCE = 620.0
"""From the camera to the face in millimetres, as assumed: a focal length of ten times the distance
of the eyes in the picture. The camera is taken to look straight at the face, so that angles are
against the line of sight."""

_STEPS = 6
_DAMPING = 1e-3


def head_pose(
    landmarks: npt.NDArray[np.floating], model: npt.NDArray[np.float64] = MODEL
) -> npt.NDArray[np.float32]:
    """How heads are turned.

    Args:
        landmarks: ``(n, 5, 2)`` in pixels, in the order of `MODEL`; rows of NaN are allowed.
        model: ``(5, 3)``, in place of the mean face.

    Returns:
        ``(n, 2)`` float32: yaw, positive where the nose points to the right as seen, and pitch,
        positive upwards, in degrees; NaN where the landmarks are. Roll is `Face.roll`.
    """
    points = np.asarray(landmarks, np.float64)
    angles = np.full((len(points), 2), np.nan, np.float32)
    usable = np.isfinite(points).all(axis=(1, 2)) & (np.ptp(points, axis=1).max(axis=1) > 0)
    if usable.any():
        turned = _solve(points[usable], model)
        yaw = np.arcsin(turned[:, 2, 0].clip(-1, 1))
        pitch = -np.arctan2(turned[:, 2, 1], turned[:, 2, 2])
        angles[usable] = np.degrees(np.stack([yaw, pitch], axis=1))
    return angles


def _solve(
    points: npt.NDArray[np.float64], model: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The rotation of each face, ``(n, 3, 3)``: pitch first, then yaw, then roll."""
    points = points - points.mean(axis=1, keepdims=True)
    centred = model - model.mean(axis=0)
    # Begin as if there were neither yaw nor pitch: the least-squares similarity in the plane.
    flat = centred[:, 0] + 1j * centred[:, 1]
    fit = (points[..., 0] + 1j * points[..., 1]) @ flat.conj() / (np.abs(flat) ** 2).sum()
    scale = np.maximum(np.abs(fit), 1e-9)
    rotation = np.zeros((len(points), 3, 3))
    rotation[:, 0, 0] = rotation[:, 1, 1] = fit.real / scale
    rotation[:, 1, 0], rotation[:, 0, 1] = fit.imag / scale, -fit.imag / scale
    rotation[:, 2, 2] = 1
    points = points / scale[:, None, None]  # in millimetres: one damping suits all sizes
    scale = np.ones(len(points))
    for _ in range(_STEPS):
        x, y, z = np.moveaxis(centred @ rotation.transpose(0, 2, 1), 2, 0)
        near = scale[:, None] * DISTANCE / (DISTANCE + z)
        shown = np.stack([x * near, y * near], axis=-1)
        # Derivatives by small turns about the three axes, and by the logarithm of the scale.
        zero = np.zeros_like(x)
        dx, dy, dz = np.stack([(zero, z, -y), (-z, zero, x), (y, -x, zero)])
        shrink = dz / (DISTANCE + z)
        by_turn = np.stack([near * (dx - x * shrink), near * (dy - y * shrink)], axis=-1)
        slopes = np.concatenate([by_turn, shown[None]])  # (4, n, 5, 2)
        # The shift that fits best is the one that brings the means together.
        error = points - (shown - shown.mean(axis=1, keepdims=True))
        slopes = slopes - slopes.mean(axis=2, keepdims=True)
        slopes = slopes.transpose(1, 2, 3, 0).reshape(len(points), 10, 4)
        normal = slopes.transpose(0, 2, 1) @ slopes
        damping = _DAMPING * np.trace(normal, axis1=1, axis2=2) / 4
        normal += damping[:, None, None] * np.eye(4)
        gradient = slopes.transpose(0, 2, 1) @ error.reshape(len(points), 10, 1)
        step = np.linalg.solve(normal, gradient)[..., 0].clip(-0.5, 0.5)
        rotation = _turn(step[:, :3]) @ rotation
        scale = scale * np.exp(step[:, 3])
    return rotation


def _turn(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotation matrices of rotation vectors ``(n, 3)``, by Rodrigues' formula."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    x, y, z = (vectors / np.maximum(angle[:, 0], 1e-12)).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    turned: npt.NDArray[np.float64] = (
        np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    )
    return turned
