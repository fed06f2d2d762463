"""Face detection by MTCNN: pixels in; boxes, scores and landmarks out.

What is done with a face once it is found is in `fever_extract.alignment` and
`fever_extract.pipeline`.
"""
