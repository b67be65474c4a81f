"""Gets an image from an address that a client named, without lending the client this machine's place in its network.

Only hosts that the configuration allows are asked. A name may point anywhere, and elsewhere the next time: so it is
resolved here, once, every address that it has must be public, and the connection goes to one of those, while TLS still
wants the certificate of the name. The same holds for where a redirect leads.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urljoin

import httpx

from llmux.config import Images
from llmux.errors import InvalidImage
from providers.images import too_large

_REDIRECTS = 3
_SECONDS = 20.0
_UNICAST = IPv6Network("2000::/3")
"""The IPv6 internet. What lies outside and passes for global stands for an IPv4 address (NAT64), or is obsolete."""
_6TO4 = IPv6Network("2002::/16")

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_public(address: str) -> bool:
    """Whether an address lies in the open internet: not private, loopback, link-local, multicast or the like."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and (ip not in _UNICAST or ip in _6TO4):
        return False
    return ip.is_global and not ip.is_multicast


class Download:
    """Fetches images.

    transport: what carries the requests; a test's, or None for the network
    """

    def __init__(
        self, limits: Images, *, resolve: Resolve = resolve, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._limits = limits
        self._hosts = {host.lower() for host in limits.hosts}
        self._resolve = resolve
        self._transport = transport

    async def __call__(self, url: str) -> bytes:
        """What lies at an address. Raises InvalidImage."""
        try:
            async with (
                asyncio.timeout(_SECONDS),
                httpx.AsyncClient(transport=self._transport, trust_env=False, timeout=_SECONDS) as client,
            ):
                for _ in range(_REDIRECTS + 1):
                    answer = await self._get(client, url)
                    if isinstance(answer, bytes):
                        return answer
                    url = answer
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError):
            raise InvalidImage("an image could not be fetched from its address", param="messages") from None
        raise InvalidImage("an image's address redirects too often", param="messages")

    async def _get(self, client: httpx.AsyncClient, url: str) -> bytes | str:
        """The image, or the address that it has moved to."""
        target = httpx.URL(url)
        port = {"http": 80, "https": 443}.get(target.scheme)
        host = target.raw_host.decode()
        if host not in self._hosts or port is None or target.port not in (None, port) or target.userinfo:
            raise InvalidImage(
                "images are not fetched from this address; send the image itself, as a data: URL. "
                "The hosts that are allowed are llmux.images.hosts in the configuration",
                param="messages",
            )
        addresses = await self._resolve(host, port)
        if not addresses or not all(map(is_public, addresses)):
            raise InvalidImage("an image's address leads into a private network", param="messages")
        request = client.build_request(
            "GET",
            target.copy_with(host=addresses[0]),
            headers={"Host": target.netloc.decode(), "Accept-Encoding": "identity", "User-Agent": "llmux"},
            extensions={"sni_hostname": host},
        )
        answer = await client.send(request, stream=True)
        try:
            if answer.is_redirect and "location" in answer.headers:
                return urljoin(url, answer.headers["location"])
            if answer.status_code != 200:
                raise InvalidImage(f"an image's address answers with {answer.status_code}", param="messages")
            data = bytearray()
            async for chunk in answer.aiter_raw():  # as it comes: a compressed answer could be of any size
                data += chunk
                if len(data) > self._limits.size:
                    raise too_large(self._limits)
            return bytes(data)
        finally:
            await answer.aclose()
