"""Transfer figures of the model card, as Markdown.

Figures are as `fever_extract.training.evaluation.transfer.evaluate_transfer` returns them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fever_extract.hub.card_tables import NOTHING, PEERS, table

OURS = "vector"
FEATURES = {
    OURS: "**the embeddings**",
    "probabilities": "the network's own probabilities",
    "pooled": "the network's own pooled features",
    **PEERS,
}
_REGIONS = ("brows", "eyes", "cheeks and nose", "mouth", "jaw")
_MEASURES = {
    "Linear probe, all faces": ("linear_probe", "accuracy"),
    "Linear probe, mean over classes": ("linear_probe", "mean_class_accuracy"),
    "5 nearest neighbours, cosine": ("neighbours", "cosine", "accuracy"),
    "5 nearest neighbours, Euclidean": ("neighbours", "euclidean", "accuracy"),
    "Retrieval, mean average precision, cosine": ("retrieval", "cosine", "value"),
    "Retrieval, mean average precision, Euclidean": ("retrieval", "euclidean", "value"),
    "Nearest class mean, 1 image a class": ("few_shot", "1", "mean_class_accuracy"),
    "Nearest class mean, 5 images a class": ("few_shot", "5", "mean_class_accuracy"),
    "Nearest class mean, 20 images a class": ("few_shot", "20", "mean_class_accuracy"),
    "Blendshapes, R²": ("blendshapes", "r2"),
    **{f"Blendshapes, R²: {region}": ("blendshapes", "regions", region) for region in _REGIONS},
    **{
        f"Head pose, R²: {axis} (less is better)": ("pose", axis)
        for axis in ("yaw", "pitch", "roll")
    },
    "Nearest is the same person (less is better)": ("identity", "accuracy"),
}
_HEADS = {
    "As it is": ("training",),
    "Its prior taken out": ("uniform",),
    "As it is, among the set's classes": ("training", "among_its_classes"),
    "Its prior taken out, among the set's classes": ("uniform", "among_its_classes"),
}


_AFFECT = {"ccc": "concordance", "correlation": "correlation", "rmse": "root mean square error"}


def summary(result: Any) -> str:
    """Summarise: sets, linear probes of all features, verdict, measures of embedding and head.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if the figures are of no known shape.
    """
    sets = result["sets"]
    titles = [f"`{s['set']}`" + (" (in domain)" if s["reference"] else "") for s in sets]
    probes = [
        [FEATURES.get(name, name), *(_probe(s["features"].get(name)) for s in sets)]
        for name in _names(sets)
    ]
    measures = [
        [title, *(_figure(s["features"].get(OURS), *keys) for s in sets)]
        for title, keys in _MEASURES.items()
    ]
    heads = [
        [title, *(_head(s.get("head"), *keys) for s in sets)] for title, keys in _HEADS.items()
    ]
    affect = [
        [f"{name.capitalize()}, {title}", *(_affect(s, name, key) for s in sets)]
        for name in ("valence", "arousal")
        for key, title in _AFFECT.items()
    ]
    parts = (
        []
        if not _with_figures(affect)
        else [table(["the head of valence and arousal", *titles], _with_figures(affect))]
    )
    return "\n\n".join(
        [
            "Sets whose labels no training saw, measured on weights with SHA-256\n"
            f"`{result['sha256']}`,\nby `{result['command']}` "
            f"on {result['machine']}, torch {result['torch']}.\n"
            f"Standard errors are of {result['resamples']} bootstrap resamples of people.",
            "\n".join(map(_about, sets)),
            table(["linear probe, right, % (mean over classes)", *titles], probes),
            _verdict(result["verdict"]),
            table(["the embeddings, % (chance)", *titles], _with_figures(measures)),
            table(
                ["the head, right, %, mean over classes (all faces)", *titles], _with_figures(heads)
            ),
            *parts,
        ]
    )


def details(result: Any) -> str:
    """Write a table per set: every measure of every feature.

    Raises:
        as `summary`.
    """
    parts = []
    for each in result["sets"]:
        names = _names([each])
        rows = [
            [title, *(_figure(each["features"][name], *keys) for name in names)]
            for title, keys in _MEASURES.items()
        ]
        parts.append(
            table(
                [f"`{each['set']}`, %", *(FEATURES.get(n, n) for n in names)], _with_figures(rows)
            )
        )
        if each.get("missing"):
            reasons = (f"{FEATURES.get(n, n)} ({why})" for n, why in each["missing"].items())
            parts.append(f"Not measured here: {'; '.join(reasons)}.")
    return "\n\n".join(parts)


def _names(sets: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the features that any set has, known ones first."""
    names = {name: None for each in sets for name in each["features"]}
    return [*(n for n in FEATURES if n in names), *(n for n in names if n not in FEATURES)]


def _with_figures(rows: Sequence[list[str]]) -> list[list[str]]:
    """Keep the rows that have a figure."""
    return [row for row in rows if set(row[1:]) != {NOTHING}]


def _about(each: Mapping[str, Any]) -> str:
    classes = ", ".join(f"{name} {count}" for name, count in each["by_class"].items())
    people = f" of {each['people']} people" if each["people"] else ""
    labels = f" ({classes})" if classes else ""
    text = f"- `{each['set']}`: {each['faces']} faces{people}{labels}; {each['protocol']}."
    if any("blendshapes" in found for found in each["features"].values()):
        exact = "exact" if each["exact"] else "MediaPipe's estimate, not the truth"
        text += f" Its blendshapes are {exact}."
    return text + (f" Note: {each['note']}." if each["note"] else "")


def _verdict(verdict: Mapping[str, Any]) -> str:
    if verdict["keeps"] is None:
        return "**Verdict: none**, there was nothing to compare."
    if verdict["keeps"]:
        return (
            "**Verdict: the embeddings keep what the network knows**: on no set is their probe "
            "more than half a standard error behind its own probabilities or pooled features."
        )
    behind = "; ".join(
        f"on `{each['set']}` {-100 * each['difference']:.1f} points behind "
        f"{FEATURES[each['rival']]} (standard error of the difference "
        f"{100 * each['standard_error']:.1f})"
        for each in verdict["behind"]
    )
    return f"**Verdict: the embeddings lose what the network knows**: {behind}."


def _probe(features: Mapping[str, Any] | None) -> str:
    if not features or "linear_probe" not in features:
        return NOTHING
    accuracy, error, by_class = (
        f"{100 * features['linear_probe'][name]:.1f}"
        for name in ("accuracy", "standard_error", "mean_class_accuracy")
    )
    return f"{accuracy} ± {error} ({by_class})"


def _figure(found: Any, *keys: str) -> str:
    """Format a figure, with chance level where known."""
    chance = None
    for key in keys:
        if not found or key not in found:
            return NOTHING
        chance, found = found.get("chance"), found[key]
    return f"{100 * found:.1f}" + ("" if chance is None else f" ({100 * chance:.1f})")


def _affect(each: Mapping[str, Any], name: str, key: str) -> str:
    found = each.get("affect", {}).get(name)
    return NOTHING if found is None else f"{found[key]:.3f}"


def _head(found: Any, *keys: str) -> str:
    for key in keys:
        if not found or key not in found:
            return NOTHING
        found = found[key]
    text = f"{100 * found['mean_class_accuracy']:.1f}"
    if "mean_class_standard_error" in found:
        text += f" ± {100 * found['mean_class_standard_error']:.1f}"
    return f"{text} ({100 * found['accuracy']:.1f})"
