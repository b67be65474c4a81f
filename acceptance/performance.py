"""Whether each model is fast enough on the GPU: POST /admin/test/performance."""

from collections.abc import Mapping
from typing import Any

from acceptance.check import Each, Failed, Skipped, check, expect
from acceptance.gateway import Gateway, admin_key_given, configuration_given
from acceptance.refusals import judge_refusal

_SPEEDUP = 5
_REALTIME = 1


def judge_report(report: Mapping[str, Any], model: str) -> str:
    """Raises Failed unless the model is 5 times as fast as on the CPU, or a voice faster than one listens."""
    expect(report["model"] == model, f"the report is on {report['model']!r}")
    if "realtime_factor" in report:
        figure, least = report["realtime_factor"], f"above {_REALTIME}"
        passes = figure > _REALTIME
        said = f"{figure} times real time: {report['audio_duration_seconds']} s in {report['synthesis_seconds']} s"
    else:
        figure, least = report["speedup"], f"{_SPEEDUP} or more"
        passes = figure >= _SPEEDUP
        said = f"{figure} times the CPU: {report['gpu_seconds']} s against {report['cpu_seconds']} s"
    expect(passes, f"{said}; it should be {least}")
    expect(report["pass"] is True, f"{said}, and the report says that this does not pass")
    return said


MODELS = Each(lambda gateway: gateway.physicals(), "there is no model")


@check("is fast enough", each=MODELS, needs=(admin_key_given, configuration_given))
def fast(gateway: Gateway, model: str) -> str:
    assert gateway.admin is not None
    answer = gateway.admin.post("/admin/test/performance", json={"physical_model_id": model})
    if answer.status_code == 200:
        return judge_report(answer.json(), model)
    if answer.status_code == 501:
        raise Skipped(judge_refusal(answer, 501, "gpu_missing"))
    raise Failed(f"refused with {answer.status_code}: {judge_refusal(answer, answer.status_code)}")


CHECKS = (fast,)
