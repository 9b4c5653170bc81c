"""Hostile and broken files, names and queries: each costs its sender one refusal, and nobody else anything."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Generator

import httpx2
import pytest
from openpyxl import Workbook
from pptx import Presentation

from tests.papers import docx, pdf
from tests.stores.shop import (
    RAG,
    Row,
    Shop,
    bomb_docx,
    brought,
    create,
    documents,
    everything,
    query,
    truncated_docx,
    upload,
)


@pytest.fixture
def ann(shop: Shop) -> Generator[httpx2.Client]:
    with shop.client("ann") as client:
        yield client


@pytest.fixture
def store(ann: httpx2.Client) -> Generator[str]:
    made = create(ann, "bad input")
    yield made
    ann.delete(f"{RAG}/databases/{made}")


def xlsx() -> bytes:
    made = io.BytesIO()
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["town", "people"])
    sheet.append(["Ulm", 126_000])
    book.save(made)
    return made.getvalue()


def pptx() -> bytes:
    made = io.BytesIO()
    deck = Presentation()
    for title in ("First slide", "Second slide"):
        shapes = deck.slides.add_slide(deck.slide_layouts[0]).shapes
        assert shapes.title is not None
        shapes.title.text = title
    deck.save(made)
    return made.getvalue()


def packed(mimetype: str, **parts: str) -> bytes:
    """An archive that begins with its type, as books and open documents do."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("mimetype", mimetype)
        for name, text in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')
    return made.getvalue()


def epub() -> bytes:
    container = "urn:oasis:names:tc:opendocument:xmlns:container"
    root = '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/>'
    titles = "<dc:identifier id='i'>b</dc:identifier><dc:title>Tales</dc:title><dc:language>en</dc:language>"
    listed = "".join(f'<item id="c{n}" href="c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in (1, 2))
    chapters = {
        f"c{number}.xhtml": "<html xmlns='http://www.w3.org/1999/xhtml'><head><title>c</title></head>"
        f"<body><h1>Chapter {number}</h1><p>The {animal} sleeps at noon.</p></body></html>"
        for number, animal in ((1, "heron"), (2, "badger"))
    }
    return packed(
        "application/epub+zip",
        **{
            "META-INF/container.xml": f"<container version='1.0' xmlns='{container}'><rootfiles>{root}</rootfiles>"
            "</container>",
            "book.opf": "<package xmlns='http://www.idpf.org/2007/opf' version='3.0' unique-identifier='i'>"
            f"<metadata xmlns:dc='http://purl.org/dc/elements/1.1/'>{titles}</metadata><manifest>{listed}</manifest>"
            "<spine><itemref idref='c1'/><itemref idref='c2'/></spine></package>",
        },
        **chapters,
    )


def odt() -> bytes:
    kind, space = "application/vnd.oasis.opendocument.text", "urn:oasis:names:tc:opendocument:xmlns"
    entry = f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/>'
    spaces = " ".join(f'xmlns:{name}="{space}:{name}:1.0"' for name in ("office", "text"))
    text = "<text:h text:outline-level='1'>Minutes</text:h><text:p>The bridge is repaired in May.</text:p>"
    return packed(
        kind,
        **{
            "META-INF/manifest.xml": f"<manifest:manifest xmlns:manifest='{space}:manifest:1.0'>{entry}"
            "</manifest:manifest>",
            "content.xml": f"<office:document-content {spaces}><office:body><office:text>{text}</office:text>"
            "</office:body></office:document-content>",
        },
    )


MAIL = b"From: a@b.example\nTo: c@d.example\nSubject: Tea\nContent-Type: text/plain\n\nThe tea is ready.\n"
HTML = b"<!doctype html><title>T</title><script>steal()</script><style>p{}</style><p>Seen &amp; read</p>"
KINDS: dict[str, tuple[bytes, str]] = {
    "a.pdf": (pdf("Words of the first page"), "Words of the first page"),
    "a.docx": (docx(), "A paragraph of the letter."),
    "a.xlsx": (xlsx(), "126000"),
    "a.pptx": (pptx(), "Second slide"),
    "a.epub": (epub(), "The badger sleeps at noon."),
    "a.odt": (odt(), "The bridge is repaired in May."),
    "a.rtf": (rb"{\rtf1\ansi The \b rich\b0  text.\par}", "text."),
    "a.eml": (MAIL, "The tea is ready."),
    "a.html": (HTML, "Seen & read"),
    "a.md": (b"# Head\n\n*text*\n", "# Head\n\n*text*"),
    "a.csv": (b"a,b\n1,2\n", "a,b\n1,2"),
    "a.json": (b'{"a": [1, 2]}', '{"a": [1, 2]}'),
    "a.py": (b"def f():\n\treturn 1\n", "def f():\n\treturn 1"),
    "utf16.txt": ("Grüße\r\n".encode("utf-16"), "Grüße"),
    "latin.txt": ("Grüße".encode("latin-1"), "Grüße"),
    "no ending": (b"just words", "just words"),
}
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "encrypted.pdf": (pdf("secret", password="x"), "encrypted"),
    "scanned.pdf": (pdf(""), "no text"),
    "cut.pdf": (pdf("words")[:300], "cannot be read"),
    "cut.docx": (truncated_docx(), "damaged"),
    "bomb.docx": (bomb_docx(), "larger than may be unpacked"),
    "empty.txt": (b"", "empty"),
    "blank.txt": (b" \n\t ", "no text"),
    "picture.png": (b"\x89PNG\r\n\x1a\n" + bytes(200), "of no kind"),
    "lies.pdf": (b"MZ\x90\x00" + bytes(500), "of no kind"),
    "cut.epub": (epub()[:-60], "damaged"),
    "cut.odt": (odt()[:-60], "damaged"),
    "words.docx": (b"these are plain words", "damaged"),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_text_of_every_kind_is_read_alike_by_both_routes(ann: httpx2.Client, name: str) -> None:
    data, words = KINDS[name]
    for path in ("/v1/extract_text", "/lollms/v1/extract_text"):
        body = {"file": base64.b64encode(data).decode(), "filename": name}
        answer = ann.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert words in answer.json()["text"]
        assert "steal" not in answer.json()["text"]


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_every_kind_is_found_in_a_store(ann: httpx2.Client, store: str, name: str) -> None:
    data, words = KINDS[name]
    [row] = brought(ann, store, (name, data))
    assert (row["filename"], row["status"], row["bytes"]) == (name, "indexed", len(data))
    text = ann.get(f"{RAG}/databases/{store}/documents/{row['id']}").json()["text"]
    assert words in text
    chunks = everything(ann, store)
    assert len(chunks) == row["chunks"] > 0
    assert {chunk["file_path"] for chunk in chunks} == {name}
    assert all(chunk["chunk_text"] == text[chunk["start_pos"] : chunk["end_pos"]] for chunk in chunks)


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_without_readable_text_is_a_400_that_says_why(ann: httpx2.Client, store: str, name: str) -> None:
    data, reason = UNREADABLE[name]
    body = {"file": base64.b64encode(data).decode() or "=", "filename": name}
    if data:
        answer = ann.post("/lollms/v1/extract_text", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unreadable_document")
        assert reason in answer.json()["detail"]
    alone = upload(ann, store, (name, data))
    assert alone.status_code == 400
    assert reason in alone.json()["detail"]


def test_a_bad_file_among_good_ones_fails_alone(ann: httpx2.Client, store: str) -> None:
    rows = brought(ann, store, ("good.txt", b"good words"), *((name, data) for name, (data, _) in UNREADABLE.items()))
    assert [row["filename"] for row in rows if row["status"] == "indexed"] == ["good.txt"]
    for row in rows[1:]:
        assert (row["status"], row["chunks"]) == ("failed", 0)
        assert UNREADABLE[row["filename"]][1] in row["error"]
    assert [hit["chunk_text"] for hit in everything(ann, store)] == ["good words"]
    assert {row["filename"] for row in documents(ann, store)} == {"good.txt", *UNREADABLE}
    assert ann.get(f"{RAG}/databases/{store}").json()["document_count"] == 1


@pytest.mark.parametrize("body", [{}, {"file": ""}, {"file": 5}, {"file": None}, {"file": "aGk=", "filename": 5}])
def test_a_body_that_does_not_fit_is_refused_as_the_surface_does(ann: httpx2.Client, body: Row) -> None:
    for path, status in (("/v1/extract_text", 400), ("/lollms/v1/extract_text", 422)):
        answer = ann.post(path, json=body)
        assert answer.status_code == status
        assert answer.json()["error"]["param"] == ("filename" if "filename" in body else "file")


@pytest.mark.parametrize("given", ["%%%", "aGVsbG8", "data:text/plain;base64,???"])
def test_what_is_no_base64_is_400(ann: httpx2.Client, given: str) -> None:
    answer = ann.post("/lollms/v1/extract_text", json={"file": given, "filename": "a.txt"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


def test_a_page_and_a_slide_are_cited_with_their_numbers(ann: httpx2.Client, store: str) -> None:
    brought(ann, store, ("a.pdf", pdf("alpha words", "beta words", "gamma words")), ("a.pptx", pptx()))
    text = ann.get(f"{RAG}/databases/{store}/documents/a.pdf").json()
    assert [page["page"] for page in text["pages"]] == [1, 2, 3]
    for page, words in zip(text["pages"], ("alpha", "beta", "gamma"), strict=True):
        assert words in text["text"][page["start_pos"] : page["end_pos"]]
    found = {hit["chunk_text"].split()[0]: hit["page"] for hit in everything(ann, store) if hit["file_path"] == "a.pdf"}
    assert found == {"alpha": 1, "beta": 2, "gamma": 3}


def test_a_file_over_the_limit_is_413_and_leaves_nothing(shop: Shop, ann: httpx2.Client, store: str) -> None:
    answer = upload(ann, store, ("big.txt", b"x" * (4 * 1024 * 1024 + 1)))
    assert answer.status_code == 413
    assert answer.json()["detail"]
    assert documents(ann, store) == []
    assert not [path for path in (shop.server.data_dir / "tmp").iterdir() if path.name.startswith("upload-")]


def test_a_text_over_the_limit_is_413_whichever_way_it_comes(shop: Shop, ann: httpx2.Client, store: str) -> None:
    large = "x " * (2 * 1024 * 1024 + 1)
    sent = {"documents": [{"filename": "small.txt", "text": "words"}, {"filename": "large.txt", "text": large}]}
    answer = ann.post(f"{RAG}/databases/{store}/documents", json=sent)
    assert (answer.status_code, answer.json()["error"]["param"]) == (413, "documents[1].text")
    encoded = {"file": base64.b64encode(large.encode()).decode(), "filename": "large.txt"}
    assert ann.post("/lollms/v1/extract_text", json=encoded).status_code == 413
    assert documents(ann, store) == []


@pytest.mark.parametrize("path", ["/lollms/v1/tokenize", "/lollms/v1/long_context_process", "/v1/chat/completions"])
def test_fifty_megabytes_of_text_are_refused_and_nobody_waits(ann: httpx2.Client, path: str) -> None:
    text = "a " * 25_000_000
    body = {"model": "talk", "text": text, "messages": [{"role": "user", "content": text}]}
    wanted = ("text",) if path.startswith("/lollms") else ("model", "messages")
    answer = ann.post(path, json={"model": "talk", **{name: body[name] for name in wanted}})
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]["code"] in ("request_too_large", "context_length_exceeded")
    assert ann.get("/internal/health").status_code == 200


@pytest.mark.parametrize("given", ["[1]", "{", "7"])
def test_metadata_that_is_no_object_is_named(ann: httpx2.Client, store: str, given: str) -> None:
    answer = upload(ann, store, ("a.txt", b"words"), data={"metadata": given})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "metadata")
    assert documents(ann, store) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("/abs/olute.txt", "olute.txt"),
        ("a\u202etxt.exe", "atxt.exe"),
        ("x" * 300 + ".txt", "x" * 251 + ".txt"),
        ("naïve 名前.txt", "naïve 名前.txt"),
    ],
)
def test_a_files_name_is_a_name(ann: httpx2.Client, store: str, given: str, kept: str) -> None:
    body = {"documents": [{"filename": given, "text": f"text of {kept}"}]}
    rows = ann.post(f"{RAG}/databases/{store}/documents", json=body).json()["data"]
    assert [row["filename"] for row in rows] == [kept]
    assert everything(ann, store)[0]["file_path"] == kept


@pytest.mark.parametrize("given", ["..", "/", "\x00", "   "])
def test_a_name_of_which_nothing_is_left_is_refused(ann: httpx2.Client, store: str, given: str) -> None:
    answer = ann.post(f"{RAG}/databases/{store}/documents", json={"documents": [{"filename": given, "text": "x"}]})
    assert answer.status_code in (400, 422)


BAD_FORMS = {
    "no boundary": ("multipart/form-data", b"x"),
    "no form": ("multipart/form-data; boundary=b", b"hello"),
    "cut off": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nabc',
    ),
    "no name": ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--b--\r\n"),
    "no file": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nabc\r\n--b--\r\n',
    ),
    "another kind": ("text/plain", b"abc"),
    "no kind": ("", b"abc"),
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_a_form_that_is_none_is_refused(ann: httpx2.Client, store: str, name: str) -> None:
    kind, body = BAD_FORMS[name]
    headers = {"content-type": kind} if kind else {}
    answer = ann.post(f"{RAG}/databases/{store}/documents", content=body, headers=headers)
    assert answer.status_code in (400, 415, 422), answer.text
    assert documents(ann, store) == []


@pytest.fixture(scope="module")
def alpha(shop: Shop) -> Generator[str]:
    """A store with one document that nobody changes."""
    with shop.client("ann") as client:
        made = create(client, "syntax")
        brought(client, made, ("a.txt", b"alpha and beta"))
        yield made
        client.delete(f"{RAG}/databases/{made}")


SYNTAX = [
    '" OR 1=1 --',
    "'; drop table chunks; --",
    "alpha AND",
    "NEAR(alpha beta, 5)",
    "terms:alpha",
    "alpha*",
    "^alpha",
    "{alpha beta} : gamma",
    "-alpha",
    "(((",
    '"unclosed',
    "\\",
    "%_%",
    "\x00alpha",
    "alpha\u0000",
    "😀",
    "…",
    "alpha " * 5000,
]


@pytest.mark.parametrize("text", SYNTAX, ids=range(len(SYNTAX)))
@pytest.mark.parametrize("mode", ["text", "hybrid", "vector"])
def test_no_syntax_of_a_query_language_means_anything(ann: httpx2.Client, alpha: str, mode: str, text: str) -> None:
    assert len(query(ann, alpha, text, mode=mode, min_similarity=0)) <= 1
    assert [hit["chunk_text"] for hit in everything(ann, alpha)] == ["alpha and beta"]


def test_words_are_found_whatever_they_are_written_like(ann: httpx2.Client, store: str) -> None:
    brought(ann, store, ("a.txt", "Die Grüße kommen. 東京の天気は晴れです。 Running shoes.".encode()))
    for text in ("GRUSSE", "grusse", "東京", "天気", "run"):
        assert query(ann, store, text, mode="text"), text
    assert query(ann, store, "missing", mode="text") == []


def test_metadata_of_a_text_has_the_bound_that_a_forms_has(ann: httpx2.Client, store: str) -> None:
    one = {"filename": "a.txt", "text": "hello", "metadata": {"note": "x" * 1_100_000}}
    answer = ann.post(f"{RAG}/databases/{store}/documents", json={"documents": [one]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (413, "documents[0].metadata")
    assert documents(ann, store) == []


def test_a_form_with_one_field_a_thousand_times_is_refused(ann: httpx2.Client, store: str) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{}\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = ann.post(f"{RAG}/databases/{store}/documents", content=part * 1200 + b"--b--\r\n", headers=headers)
    assert answer.status_code == 413
    assert "more than 1000 files and 100 fields" in answer.json()["error"]["message"]
