"""Ids of faces from frame to frame."""

import numpy as np

from fever_extract.video.tracking import MAX_GAP, Tracker


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
