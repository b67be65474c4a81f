"""POST /admin/test/performance: a model timed with the machine to itself."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field

from llmux import performance
from llmux.config import Config
from llmux.cpu_timing import on_cpu
from llmux.errors import GpuMissing
from llmux.request import errors_noted
from llmux.routes import Key, Order, order_of
from llmux.weights import require_weights
from providers.leased import Leased
from providers.runtime import Runtime
from vram.device import DeviceError, NoGpu, NvmlDevice


class PerformanceOrder(Order):
    """The body: {"physical_model_id"}."""

    model: str = Field(alias="physical_model_id")


def has_gpu() -> bool:
    """Whether there is a GPU; one that does not answer is one, as the lease will say."""
    try:
        NvmlDevice()
    except NoGpu:
        return False
    except DeviceError:
        return True
    return True


def performance_route(leased: Leased, config: Config, has_gpu: Callable[[], bool] = has_gpu) -> APIRouter:
    """With the admin's key. Refused while requests are served; who comes meanwhile is refused for that time."""
    router = APIRouter()

    @router.post("/admin/test/performance")
    async def test(request: Request, key: Key) -> dict[str, Any]:
        with errors_noted():
            model = (await order_of(PerformanceOrder, request, key, config)).model
            task = config.settings.models[model].task
            require_weights(model, config)
            if not has_gpu():
                raise GpuMissing(f"there is no GPU here on which {model} could be timed")

            async def work(runtime: Runtime) -> AsyncGenerator[dict[str, Any], None]:
                timing = await performance.timed(task, runtime)
                if task == "tts":
                    yield performance.spoken(model, timing)
                else:
                    yield performance.compared(model, timing.seconds, await on_cpu(model, config))

            async with aclosing(leased.stream(model, work, alone=True)) as reports:
                return await anext(reports)

    return router
