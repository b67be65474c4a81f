from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from llmux.upload import Upload, named

FORM = (
    b'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\nEars\r\n'
    b"--edge\r\n%s\r\n\r\n\x00\xff\r\n--edge--\r\n"
)
UNNAMED = b'Content-Disposition: form-data; name="file"'


async def arrived(body: bytes, cuts: list[int], path: str = "/v1/audio/transcriptions") -> bytes:
    """What the application reads of a body that comes in pieces."""
    bounds = [0, *sorted(cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(bounds)]
    read = b""

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal read
        more = True
        while more:
            message = await receive()
            read += message["body"]
            more = message["more_body"]

    async def send(message: Message) -> None: ...

    scope: dict[str, Any] = {"type": "http", "path": path}
    await Upload(app)(scope, receive, send)
    return read


@given(st.lists(st.integers(0, len(FORM) + 40), max_size=6))
async def test_a_file_without_a_name_gets_one_however_the_form_is_cut(cuts: list[int]) -> None:
    body = FORM % UNNAMED

    assert await arrived(body, [cut for cut in cuts if cut <= len(body)]) == FORM % (
        UNNAMED + b'; filename="recording"'
    )


@pytest.mark.parametrize(
    "header",
    [
        UNNAMED + b'; filename="a.wav"',
        b'content-disposition: form-data; filename=a.wav; name="file"',
        UNNAMED + b"; filename=a.wav; filename*=UTF-8''a.wav",
        b'Content-Disposition: form-data; name="file_format"',
    ],
)
async def test_every_other_part_passes_as_it_is(header: bytes) -> None:
    assert await arrived(FORM % header, [10, 60, 61]) == FORM % header


async def test_other_routes_pass_as_they_are() -> None:
    assert await arrived(FORM % UNNAMED, [], path="/v1/chat/completions") == FORM % UNNAMED


@pytest.mark.parametrize("name", [b'filename=""', b"filename*=UTF-8''a.wav"])
def test_a_name_that_is_none_in_a_form_is_replaced(name: bytes) -> None:
    assert named(UNNAMED + b"; " + name) == UNNAMED + b'; filename="recording"'


async def test_what_a_recording_holds_is_not_touched_once_the_file_has_begun() -> None:
    body = FORM % (UNNAMED + b'; filename="a"\r\n\r\n\r\n' + UNNAMED)

    assert await arrived(body, [30]) == body
