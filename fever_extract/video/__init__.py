"""Video: decode frames, extract them, track faces from frame to frame.

Needs the extra ``video``. A folder of clips is a job: see `fever_extract.jobs`.
"""
