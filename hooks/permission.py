"""Which models a key may use, asked of LiteLLM: by name, by access group, or by whatever else it lets a key hold."""

from collections.abc import Awaitable, Callable

from litellm.proxy._types import UserAPIKeyAuth

Permission = Callable[[UserAPIKeyAuth, str], Awaitable[bool]]
"""Whether a key may use the model of a public name."""


async def may_use(key: UserAPIKeyAuth, model: str) -> bool:
    """The Permission of the proxy that runs in this process."""
    from litellm.proxy import proxy_server  # its router is made as it starts
    from litellm.proxy._types import ProxyException
    from litellm.proxy.auth.auth_checks import can_key_call_model

    try:
        await can_key_call_model(
            model, proxy_server.llm_model_list, key, proxy_server.llm_router, proxy_server.prisma_client
        )
    except ProxyException:
        return False
    return True
