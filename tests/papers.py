"""Documents as people have them."""

from __future__ import annotations

import io

from docx import Document as Docx
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas


def pdf(*pages: str, password: str = "") -> bytes:
    """A page without words has a drawing on it."""
    made = io.BytesIO()
    canvas = Canvas(made, encrypt=StandardEncryption(password) if password else None)
    for page in pages:
        if page:
            canvas.drawString(50, 700, page)
        else:
            canvas.rect(10, 10, 100, 100, fill=1)
        canvas.showPage()
    canvas.save()
    return made.getvalue()


def docx() -> bytes:
    made = io.BytesIO()
    document = Docx()
    document.add_heading("A heading")
    document.add_paragraph("A paragraph of the letter.")
    document.save(made)
    return made.getvalue()
