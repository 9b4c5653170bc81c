"""Text into tokens and back without a loaded model: `python -m atrium.engines.workers.vocabulary`.

Requests come on standard input and answers go to standard output, each four bytes of length (big endian) and msgpack.
Only vocabularies are read, so a model that is loading, busy or asleep makes nobody wait.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
import threading
from array import array
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Literal

import msgspec

from atrium.decisions.fake_address import FIRST_WORD, SCHEME, WORDS
from atrium.engines.workers.fake_speech import bytes_of
from atrium.engines.workers.llama_vocabulary import open_vocabulary
from atrium.engines.workers.lossless import Lossless
from atrium.engines.workers.parent import ask_for_signal

HEAD = struct.Struct(">I")
THREADS = 4
STACK = 256 * 1024 * 1024
"""Bytes of a thread's stack: the engine's pattern matching recurses over long runs of one kind of character."""
MOST_VOCABULARIES = 4
"""The one that was used least lately is read again when it is wanted."""
ROOM = 12 * 1024**3
"""Bytes of address space."""


class Question(msgspec.Struct):
    id: int
    do: Literal["encode", "count", "decode", "ends"]
    path: str
    """Of the GGUF file; or a `fake:` address; empty: plain bytes."""
    mark: int | None = None
    text: str = ""
    ids: bytes = b""
    """Little-endian 32-bit numbers."""


class Answer(msgspec.Struct):
    id: int
    data: bytes = b""
    error: str = ""


class PlainBytes:
    """One token for each byte; what the fake engine does, too."""

    pieces: tuple[bytes, ...] = tuple(bytes_of(token) for token in range(FIRST_WORD + len(WORDS)))

    def tokens(self, raw: bytes) -> list[int]:
        return list(raw)


class Shelf:
    """Vocabularies that are open; reading one is done once however many ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Lossless] = OrderedDict()

    def take(self, path: str, mark: int | None) -> Lossless:
        with self._lock:
            found = self._open.pop(path, None)
            if found is None:
                plain = not path or path.startswith(SCHEME)
                found = Lossless(PlainBytes() if plain else open_vocabulary(path), mark)
            self._open[path] = found
            if len(self._open) > MOST_VOCABULARIES:
                self._open.popitem(last=False)
            return found


def done(shelf: Shelf, question: Question) -> bytes:
    vocabulary = shelf.take(question.path, question.mark)
    match question.do:
        case "encode":
            return array("i", vocabulary.encode(question.text)).tobytes()
        case "count":
            return HEAD.pack(len(vocabulary.encode(question.text)))
        case "decode":
            return vocabulary.decode(array("i", question.ids)).encode()
        case "ends":
            return vocabulary.ends(question.text)


class Voice:
    """Writes whole answers, one after the other."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._lock = threading.Lock()

    def say(self, answer: Answer) -> None:
        raw = msgspec.msgpack.encode(answer)
        with self._lock:
            self._output.write(HEAD.pack(len(raw)) + raw)
            self._output.flush()


def answer(shelf: Shelf, voice: Voice, question: Question) -> None:
    try:
        told = Answer(question.id, done(shelf, question))
    except Exception as error:  # noqa: BLE001 - a thread's root: whoever asked is told
        told = Answer(question.id, error=f"{type(error).__name__}: {error}"[:500])
    voice.say(told)


def main() -> None:
    ask_for_signal(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    threading.stack_size(STACK)
    shelf, voice, source = Shelf(), Voice(sys.stdout.buffer), sys.stdin.buffer
    threads = ThreadPoolExecutor(THREADS)
    while len(head := source.read(HEAD.size)) == HEAD.size:
        question = msgspec.msgpack.decode(source.read(HEAD.unpack(head)[0]), type=Question)
        threads.submit(answer, shelf, voice, question)
    # Nobody is left to be told what the threads still find out.
    os._exit(0)


if __name__ == "__main__":
    main()
