"""C++ in the places where torch takes longest, and the library that it is compiled to.

What each function takes and gives is said where it is called: `fever_extract.detection.compiled`,
`fever_extract.models.compiled` and `fever_extract.images`.
"""
