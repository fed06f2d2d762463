"""Ids of faces from frame to frame."""

import numpy as np
import pytest

from fever_extract.video.tracking import MAX_GAP, MEMORY, Tracker

# Hair, skin and shirt of people who are made of three colours each.
ANNA = ((60, 40, 30), (220, 180, 160), (30, 60, 140))
BERT = ((120, 90, 60), (180, 130, 100), (150, 40, 40))
TWIN = ((60, 40, 30), (220, 180, 160), (31, 62, 138))


def boxes(*corners, side=100.0):
    return np.array([[x, y, x + side, y + side] for x, y in corners], np.float32).reshape(-1, 4)


def test_boxes_without_an_area_overlap_nothing():
    tracker = Tracker()
    assert tracker.update(boxes((0, 0), side=0), 0.0) == [0]
    assert tracker.update(boxes((0, 0), side=0), 0.1) == [1]


def test_ids_follow_the_faces_and_not_their_order():
    tracker = Tracker()
    assert tracker.update(boxes((0, 0), (300, 0)), 0.0) == [0, 1]
    assert tracker.update(boxes((290, 0), (15, 0)), 0.1) == [1, 0]
    assert tracker.update(boxes((600, 0), (30, 0), (280, 0)), 0.2) == [2, 0, 1]


def test_the_greatest_overlap_is_joined_first():
    tracker = Tracker()
    tracker.update(boxes((0, 0), (60, 0)), 0.0)
    assert tracker.update(boxes((40, 0)), 0.1) == [1]
    assert tracker.update(boxes((45, 0), (-5, 0)), 0.2) == [1, 0], "0 waited where it was"


def test_a_short_gap_keeps_the_id_and_a_long_one_does_not():
    tracker = Tracker()
    tracker.update(boxes((0, 0)), 0.0)
    assert tracker.update(boxes(), 0.5) == []
    assert tracker.update(boxes((5, 0)), MAX_GAP) == [0]
    assert tracker.update(boxes(), MAX_GAP * 2.1) == []
    assert tracker.update(boxes((5, 0)), MAX_GAP * 2.2) == [1]


def test_frames_far_apart_are_no_gap():
    tracker = Tracker()
    assert [tracker.update(boxes((0, 0)), 10.0 * index) for index in range(3)] == [[0]] * 3


def test_a_jump_is_another_face():
    tracker = Tracker()
    tracker.update(boxes((0, 0)), 0.0)
    assert tracker.update(boxes((80, 0)), 0.1) == [1]


def picture(*people, size=(400, 900)):
    """A wall and people before it, each (colours, left edge of the box, at the height 100)."""
    rng = np.random.default_rng(0)
    pixels = np.full((*size, 3), (200, 200, 190), np.uint8)
    for (hair, skin, shirt), left in people:
        pixels[60:130, left - 15 : left + 115] = hair
        pixels[100:200, left : left + 100] = skin
        pixels[205:320, left - 60 : left + 160] = shirt
    noise = rng.integers(-6, 7, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


class Clip:
    """Ids by the colours of made-up people, frame by frame."""

    def __init__(self):
        self.tracker, self.time = Tracker(), 0.0

    def show(self, *people, after=0.1):
        self.time += after
        found = boxes(*((left, 100) for _, left in people))
        return self.tracker.update(found, self.time, picture(*people))


def test_one_who_leaves_and_returns_elsewhere_gets_the_id_back():
    clip = Clip()
    assert clip.show((ANNA, 100)) == [0]
    assert clip.show() == []
    assert clip.show(after=20) == []
    assert clip.show((ANNA, 600)) == [0]
    assert clip.show(after=MEMORY + 1) == []
    assert clip.show((ANNA, 600)) == [1], "forgotten"


@pytest.mark.parametrize("after", [0.04, 0.5, 2.0])
def test_a_cut_to_somebody_else_and_back(after):
    clip = Clip()
    assert clip.show((ANNA, 100)) == [0]
    assert clip.show((BERT, 100), after=after) == [1]
    assert clip.show((ANNA, 100), after=after) == [0]
    assert clip.show((BERT, 110), after=after) == [1]


def test_two_who_cross():
    clip = Clip()
    for step in range(0, 500, 25):
        people = [(ANNA, 100 + step), (BERT, 600 - step)]
        if abs(people[0][1] - people[1][1]) < 60:
            people = people[:1]  # who is behind is not found
        ids = clip.show(*people)
        if step < 200:
            assert ids == [0, 1]
    assert ids == [0, 1]


def test_two_who_look_alike_are_not_told_apart_by_colours():
    """Whoever returns may be either: a new id rather than a wrong one."""
    clip = Clip()
    assert clip.show((ANNA, 100), (TWIN, 600)) == [0, 1]
    assert clip.show() == []
    assert clip.show(after=5) == []
    assert clip.show((ANNA, 350)) == [2]


def test_one_of_another_size_is_somebody_else():
    clip = Clip()
    assert clip.show((ANNA, 100)) == [0]
    assert clip.show(after=5) == []
    near = picture((ANNA, 100))[50:350, 30:270].repeat(2, 0).repeat(2, 1)
    assert clip.tracker.update(boxes((140, 100), side=200.0), 6.0, near) == [1]


def test_a_face_whose_surroundings_are_outside_is_followed_by_its_place():
    tracker = Tracker()
    assert tracker.update(boxes((20, 390)), 0.1, picture((ANNA, 100))) == [0]
    assert tracker.update(boxes((21, 391)), 0.2, picture((BERT, 100))) == [0]
