"""Video: decode frames, extract them, track faces; courses over time, clips drawn on and written.

Needs the extra ``video``; courses need ``course``. A folder of clips is a job: see
`fever_extract.jobs`.
"""
