"""From photograph to embedding without torch: a folder of ONNX files and programs that use them.

Writing one is in `fever_extract.bundle.writing`, what checks it in
`fever_extract.bundle.conformance`. `fever_extract.bundle.runtime` is its program for Python, and
``fever.js`` the one for browsers; weights and networks are made elsewhere.
"""
