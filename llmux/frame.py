"""The error in a stream that has begun. It has no status any more, so it is the last frame."""

import json
import re
from collections.abc import Mapping
from typing import Any

_ADVICE = re.compile(r"[;,.]? *try again\b[^;.]*$")
_PASSING = ("server_error", "service_unavailable", "rate_limit_error")
"""Types that say when to ask again rather than what happened."""


def last_frames(told: Mapping[str, Any]) -> bytes:
    """The error, and the end of the stream.

    told: OpenAI's error object, as it would have been told with a status

    The frame says `invalid_request_error` whatever happened, and its code says what: in a stream some clients go by
    type and words alone, and repeat for ever what reads as if it would pass. It is an `error` event with the error in
    it, by which chat completions' clients know it and Anthropic's, and with the same fields beside it, for those of
    /v1/responses.
    """
    error = {
        **told,
        "type": "invalid_request_error",
        "message": _ADVICE.sub("", told["message"]),
        "code": told["code"] or ("failed" if told["type"] in _PASSING else told["type"]),
    }
    frame = {**error, "type": "error", "error": error}
    return b"event: error\ndata: " + json.dumps(frame).encode() + b"\n\ndata: [DONE]\n\n"
