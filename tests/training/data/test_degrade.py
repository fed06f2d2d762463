"""Faces that are covered and badly stored, the same again for the same seed."""

import torch

from fever_extract.training.data.degrade import covers, degrade


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_share_of_the_faces_is_degraded_and_the_rest_untouched():
    crops = torch.rand(200, 1, 32, 32, generator=generator()) * 255
    result = degrade(crops.clone(), 0.3, 0.3, generator(1))
    touched = (result != crops).flatten(1).any(dim=1)
    # Covered, or lowered alone: 0.3 + 0.7 * 0.3.
    assert 0.4 < touched.float().mean() < 0.62
    assert result.min() >= 0
    assert result.max() <= 255
    assert torch.equal(degrade(crops.clone(), 0.3, 0.3, generator(1)), result)
    assert not torch.equal(degrade(crops.clone(), 0.3, 0.3, generator(2)), result)
    assert torch.equal(degrade(crops.clone(), 0.0, 0.0, generator(1)), crops)


def test_covers_hide_part_of_the_face_and_never_all():
    hidden = covers(500, 48, generator()).float().mean(dim=(1, 2, 3))
    assert hidden.max() < 0.7
    assert (hidden > 0.02).float().mean() > 0.95
    lower = covers(500, 48, generator())[:, 0, -1, :].all(dim=1).float().mean()
    assert 0.2 < lower < 0.47, "a third are masks, whose lowest row is hidden"
