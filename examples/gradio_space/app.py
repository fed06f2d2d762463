"""A page that finds faces in a photograph and tells their expressions; a Space as it stands.

pip install -r requirements.txt && python app.py
"""

import gradio as gr
import numpy as np

from fever_extract import ExtractionError, Extractor
from fever_extract.report.drawing import annotate

extractor = Extractor()


def describe(photograph: np.ndarray | None):
    """The photograph with its faces marked, and the first face's expressions."""
    if photograph is None:
        return None, {}
    try:
        faces = extractor.extract_faces(photograph)
    except ExtractionError as error:
        raise gr.Error(str(error)) from error
    if not faces:
        gr.Warning("No face found.")
    return annotate(photograph, faces), faces[0].expressions if faces else {}


page = gr.Interface(
    describe,
    gr.Image(label="Photograph"),
    [gr.Image(label="Faces"), gr.Label(label="Expressions of the largest face")],
    title="What does this face show?",
    description="An expression is what a face shows, not what a person feels.",
    flagging_mode="never",  # nothing that visitors show is kept
)

if __name__ == "__main__":
    page.launch()
