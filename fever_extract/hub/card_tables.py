"""Tables of the model card, from the figures in a config.

Figures are as `fever_extract.training.evaluation.evaluate.evaluate` returns them, or as earlier
releases did, without intervals, peers and protocols but the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ROWS = {
    "head": "The network's own head",
    "head_with_mirror_image": "The same, averaged with the mirror image",
    "head_without_prior": "The same, with the prior of FER+ taken out",
    "head_without_alignment": "The head, on the pictures as FER+ crops them, not aligned",
    "linear_probe": "Logistic regression on the embeddings (scikit-learn's defaults, standardised)",
}
_OCCLUSION = {
    "lower_half": "Lower half of the picture black",
    "upper_half": "Upper half of the picture black",
    "block": "A random block of 40 % of the picture black",
}
PEERS = {
    "blendshapes": "blendshapes (MediaPipe)",
    "hog": "HOG",
    "pixels": "pixels",
    "face_recognition": "face recognition (VGGFace2)",
}
_FER = "Peer: the network of the `fer` package (no contempt), not aligned, as it was trained"
NOTHING = "-"


def measured(evaluation: Any) -> str:
    """All of it as Markdown.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if the figures are of no known shape.
    """
    parts = [_about(evaluation), _accuracy(evaluation), _by_class(evaluation)]
    if "occlusion" in evaluation:
        parts.append(_robustness(evaluation))
    if "calibration" in evaluation:
        parts.append(_calibration(evaluation["calibration"]))
    if "vectors" in evaluation:
        parts.append(_embeddings(evaluation))
    if "cost" in evaluation:
        parts.append(_cost(evaluation["cost"]))
    return "\n\n".join(parts)


def _about(evaluation: Mapping[str, Any]) -> str:
    lines = [
        f"{evaluation['data']}: {evaluation['faces']} faces, of weights with SHA-256",
        f"`{evaluation['sha256']}`,",
        f"by `{evaluation['command']}` on {evaluation['machine']}, torch {evaluation['torch']}.",
    ]
    if evaluation.get("split", "test") == "test":
        lines[-1] += " Chosen on validation data; test data was read for this table."
    if "resamples" in evaluation:
        lines += [
            f"In brackets are 95 % intervals: {evaluation['resamples']} bootstrap resamples of the",
            "images (of people, where it is about them); for class means, the draws of examples.",
            f"Whatever is random has seed {evaluation['seed']}. docs/evaluation.md of the package",
            "has each protocol.",
        ]
    return "\n".join(lines)


def _accuracy(evaluation: Mapping[str, Any]) -> str:
    shown = {title: evaluation[row] for row, title in ROWS.items() if row in evaluation}
    if "head" in evaluation.get("peers", {}).get("fer", {}):
        shown[_FER] = evaluation["peers"]["fer"]["head"]
    rows = [
        [
            title,
            *(
                _percent(figures[name], figures.get(f"{name}_interval"))
                for name in ("accuracy", "mean_class_accuracy")
            ),
        ]
        for title, figures in shown.items()
    ]
    return table(["right, %", "all faces", "mean over classes"], rows)


def _by_class(evaluation: Mapping[str, Any]) -> str:
    classes = list(evaluation["faces_by_class"])
    rows = [["faces", *(str(evaluation["faces_by_class"][name]) for name in classes)]]
    for row, title in ROWS.items():
        if row in evaluation:
            shares = (evaluation[row]["by_class"][name] for name in classes)
            rows.append(
                [title, *(NOTHING if x is None else f"{100 * x:.0f}" for x in shares)],
            )
    return table(["right, %, by class", *classes], rows)


def _robustness(evaluation: Mapping[str, Any]) -> str:
    worse = {title: evaluation["occlusion"][name] for name, title in _OCCLUSION.items()}
    for side, figures in evaluation["resolution"].items():
        worse[f"Reduced to {side}x{side} pixels and enlarged again"] = figures
    worse["Landmarks moved by 5 % of the face"] = evaluation["crop_jitter"]
    rows = [
        [
            title,
            _percent(figures["accuracy"], figures["accuracy_interval"]),
            _percent(figures["lost"], figures["lost_interval"]),
        ]
        for title, figures in worse.items()
    ]
    heading = ["head averaged with the mirror image, on worse pictures", "right, %", "points lost"]
    return table(heading, rows)


def _calibration(calibration: Mapping[str, Any]) -> str:
    head, mirrored = (
        _percent(calibration[name]["error"], calibration[name]["interval"])
        for name in ("head", "head_with_mirror_image")
    )
    text = (
        f"Expected calibration error (15 bins): {head} % of the head's probabilities, {mirrored} % "
        "of those averaged with the mirror image."
    )
    if "head_without_prior" not in calibration:
        return text
    uniform = calibration["head_without_prior"]
    perfect = uniform["perfect"]
    return (
        f"{text} Of those that presume no prior, classes weighted alike: "
        f"{_percent(uniform['error'], uniform['interval'])} %, where a perfectly calibrated head "
        f"would measure {_percent(perfect['error'], perfect['interval'])} % with as few faces of "
        "the rare classes."
    )


def _embeddings(evaluation: Mapping[str, Any]) -> str:
    ours, peers = evaluation["vectors"], evaluation["peers"]
    shown = {"**ours**": ours}
    shown.update((title, peers[name]) for name, title in PEERS.items() if name in peers)
    probe = f"Logistic regression, of {ours['train_faces']} faces"
    rows = {
        "Numbers": ("dimensions",),
        probe: ("linear_probe", "accuracy"),
        "The same, mean over classes": ("linear_probe", "mean_class_accuracy"),
        "Closest pair of three, by votes (chance 33.3)": ("triplets", "accuracy"),
    }
    for shots in ours["few_shot"]:
        images = "image" if shots == "1" else "images"
        title = f"Nearest class mean, {shots} {images} a class, mean over classes"
        rows[f"{title}{_chance(ours['few_shot'][shots])}"] = ("few_shot", shots)
    if "identity_leak" in ours:
        title = f"Nearest embedding is of the same person{_chance(ours['identity_leak'])}"
        rows[f"{title}: the less, the less identity leaks"] = ("identity_leak", "accuracy")
    asked = table(
        ["embeddings, right, %", *shown],
        [
            [title, *(_cell(figures, *keys) for figures in shown.values())]
            for title, keys in rows.items()
        ],
    )
    missing = [
        f"{title} ({peers[name]['missing']})"
        for name, title in {**PEERS, "fer": "the `fer` package"}.items()
        if "missing" in peers.get(name, {})
    ]
    return asked + (f"\n\nNot measured here: {'; '.join(missing)}." if missing else "")


def _cell(figures: Mapping[str, Any], name: str, key: str = "") -> str:
    """One figure of one kind of embeddings, wherever it is kept."""
    if name not in figures:
        return NOTHING
    if name == "dimensions":
        return str(figures[name])
    if name == "few_shot":
        found = figures[name].get(key)
        return _percent(found["mean_class_accuracy"], found["interval"]) if found else NOTHING
    found = figures[name]
    return _percent(found[key], found.get(f"{key}_interval", found.get("interval")))


def _chance(figures: Mapping[str, Any]) -> str:
    return f" (chance {100 * figures['chance']:.1f})"


def _cost(cost: Mapping[str, Any]) -> str:
    return (
        f"A face costs {cost['gmac']:.2f} GMAC and, on one thread of that machine's CPU in batches "
        f"of {cost['batch']}, {cost['milliseconds']:.1f} ms; the network has "
        f"{cost['parameters'] / 1e6:.1f} million parameters."
    )


def _percent(share: float, interval: Sequence[float] | None = None) -> str:
    text = f"{100 * share:.1f}"
    if interval is None:
        return text
    low, high = interval
    return f"{text} ({100 * low:.1f} to {100 * high:.1f})"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
