"""Which models a key may use, asked of LiteLLM: by name, by access group, or by whatever else it lets a key hold."""

from litellm.proxy import proxy_server
from litellm.proxy._types import ProxyException, UserAPIKeyAuth
from litellm.proxy.auth.auth_checks import can_key_call_model


async def may_use(key: UserAPIKeyAuth, model: str) -> bool:
    """Whether the key may use the model of this public name."""
    try:
        await can_key_call_model(
            model, proxy_server.llm_model_list, key, proxy_server.llm_router, proxy_server.prisma_client
        )
    except ProxyException:
        return False
    return True
