"""Every error that a caller of the gateway can meet.

    LlmuxError
    ├── InvalidRequest              400
    │   ├── WrongTask               400  a model of another task
    │   ├── InvalidAudio            400  not audio, empty, truncated
    │   ├── InvalidImage            400  not an image, too large, not to be had
    │   ├── ContextLengthExceeded   400
    │   └── InsufficientVram        400  can never fit, so that clients do not retry
    ├── Unauthenticated             401
    │   ├── KeyExpired              401
    │   └── KeyBlocked              401
    ├── BudgetExhausted             402  not 429, which clients repeat: a budget does not come back by itself
    ├── PermissionDenied            403
    │   └── AdminKeyNeeded          403  an order about VRAM, or administration, with another key than the admin's
    ├── NotFound                    404  no such route
    │   ├── ModelNotFound           404
    │   └── WeightsMissing          404
    ├── RequestTimedOut             408  a body that stopped coming
    ├── RequestTooLarge             413
    ├── RateLimited                 429  carries Retry-After
    ├── GpuMissing                  501  only a GPU could do it, and there is none
    ├── RuntimeMissing              501  the model's runtime is not part of this installation
    └── Unavailable                 503  retry later: every one carries Retry-After
        ├── QueueFull               503
        ├── LoadFailed              503
        ├── DeviceLost              503  the GPU does not answer: what is loaded is served, nothing else is loaded
        ├── DeviceFailed            503  the GPU failed under the gateway, which starts again
        ├── ModelBusy               503  cannot be unloaded now
        ├── DatabaseUnavailable     503  keys cannot be looked up
        ├── TimedOut                503
        └── Stopping                503

Messages are written for the person at the client: what is wrong and what to do. They never hold a path of this
machine, a key, or what was asked of a model.
"""

from typing import Any, ClassVar

from vram import refusal


class LlmuxError(Exception):
    """An error with an HTTP status and an OpenAI-shaped body.

    LiteLLM reads `status_code`, and both reads and rewrites `message`: what the client is told comes from `args`.
    """

    status_code: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """The OpenAI error object: {"error": {"message", "type", "param", "code"}}."""
        return {"error": {"message": str(self.args[0]), "type": self.type, "param": self.param, "code": self.code}}

    def response_headers(self) -> dict[str, str]:
        """Retry-After in whole seconds, at least 1, where the error may pass."""
        if self.retry_after_s is None:
            return {}
        return {"Retry-After": str(max(1, round(self.retry_after_s)))}


class InvalidRequest(LlmuxError):
    status_code = 400
    type = "invalid_request_error"


class WrongTask(InvalidRequest):
    code = "wrong_task"


class InvalidAudio(InvalidRequest):
    code = "invalid_audio"


class InvalidImage(InvalidRequest):
    code = "invalid_image"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class InsufficientVram(InvalidRequest):
    type = "insufficient_vram"
    code = "insufficient_vram"


class Unauthenticated(LlmuxError):
    status_code = 401
    type = "authentication_error"
    code = "invalid_api_key"


class KeyExpired(Unauthenticated):
    code = "api_key_expired"


class KeyBlocked(Unauthenticated):
    code = "api_key_blocked"


class BudgetExhausted(LlmuxError):
    status_code = 402
    type = "insufficient_quota"
    code = "insufficient_quota"


class PermissionDenied(LlmuxError):
    status_code = 403
    type = "permission_error"
    code = "model_not_allowed"


class AdminKeyNeeded(PermissionDenied):
    code = "admin_key_needed"


class NotFound(LlmuxError):
    status_code = 404
    type = "not_found_error"
    code = "not_found"


class ModelNotFound(NotFound):
    type = "invalid_request_error"
    code = "model_not_found"


class WeightsMissing(NotFound):
    type = "weights_missing"
    code = "weights_missing"


class RequestTimedOut(LlmuxError):
    status_code = 408
    type = "invalid_request_error"
    code = "request_timed_out"


class RequestTooLarge(LlmuxError):
    status_code = 413
    type = "invalid_request_error"
    code = "request_too_large"


class RateLimited(LlmuxError):
    status_code = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class RuntimeMissing(LlmuxError):
    status_code = 501
    type = "runtime_missing"
    code = "runtime_missing"


class GpuMissing(LlmuxError):
    status_code = 501
    type = "gpu_missing"
    code = "gpu_missing"


class Unavailable(LlmuxError):
    status_code = 503
    type = "service_unavailable"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float = 5.0) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)


class QueueFull(Unavailable):
    type = "queue_full"
    code = "queue_full"


class LoadFailed(Unavailable):
    type = "load_failed"
    code = "load_failed"


class DeviceLost(Unavailable):
    type = "device_lost"
    code = "device_lost"


class DeviceFailed(Unavailable):
    type = "device_failed"
    code = "device_failed"


class ModelBusy(Unavailable):
    type = "model_busy"
    code = "model_busy"


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"


class TimedOut(Unavailable):
    type = "timeout"
    code = "timeout"


class Stopping(Unavailable):
    type = "stopping"
    code = "stopping"


_RESTART_S = 30.0
"""What a supervisor takes to have the gateway up again; docs/measurements.md has what was measured."""


def of_refusal(refused: refusal.Refused) -> LlmuxError:
    """What the arbiter's refusal means to the client."""
    match refused:
        case refusal.QueueFull():
            return QueueFull(
                f"{refused.waiting} requests are waiting already, which is the limit; try again shortly",
                retry_after_s=refused.retry_after_s,
            )
        case refusal.NeverFits():
            return InsufficientVram(
                f"{refused.model} needs {refused.needed_bytes / 1e9:.2f} GB and the budget is "
                f"{refused.budget_bytes / 1e9:.2f} GB: it can never fit. Use a smaller model, or raise llmux.budget",
                param="model",
            )
        case refusal.OutOfMemory():
            return LoadFailed(
                f"the GPU has no memory left for {refused.model}, although what was idle made room; try again later",
                retry_after_s=refused.retry_after_s,
            )
        case refusal.LoadFailed():
            return LoadFailed(f"{refused.model} could not be loaded; try again", retry_after_s=refused.retry_after_s)
        case refusal.DeviceLost():
            return DeviceLost(
                f"{refused.model} cannot be loaded, because the GPU does not answer; models that are loaded go on",
                retry_after_s=refused.retry_after_s,
            )
        case refusal.DeviceFailed():
            return DeviceFailed(
                "the GPU failed while it worked on this, and the gateway starts again; try again in half a minute",
                retry_after_s=_RESTART_S,
            )
        case _:
            return Stopping("the gateway is stopping; try again shortly")
