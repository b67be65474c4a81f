"""What comes over a real socket, and when."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.http_stream import posted


@contextmanager
def server(status: int, parts: Sequence[bytes], *, chunked: bool = True) -> Iterator[str]:
    """Answers each body with these parts, the body before them."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
            self.end_headers()
            for part in (self.headers["Authorization"].encode(), body, *parts):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            if chunked:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/path"
        listening.shutdown()


@pytest.mark.parametrize("chunked", [True, False])
def test_the_body_is_there_without_what_wraps_it(chunked: bool) -> None:
    with server(200, [b"a", b"b" * 100_000], chunked=chunked) as url:
        came = posted(url, "key", {"x": 1})
    assert b"".join(part for _, part in came.parts) == b'Bearer key{"x": 1}a' + b"b" * 100_000
    times = [came.asked_s, *(at_s for at_s, _ in came.parts), came.ended_s]
    assert times == sorted(times)


def test_a_refusal_is_an_error_that_says_what_was_said() -> None:
    with server(503, [b"busy"]) as url, pytest.raises(RuntimeError, match=r"503: .*busy"):
        posted(url, "key", {})
