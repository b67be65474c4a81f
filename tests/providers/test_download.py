"""What a client may have fetched: from allowed hosts, at public addresses, through redirects, and no more of it."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from llmux.config import Images
from llmux.errors import InvalidImage
from providers.download import Download, is_public, resolve

PUBLIC = "93.184.215.14"
LIMITS = Images.model_validate({"hosts": ["pictures.example", "Other.Example"], "size": "0.001 MB"})

Handler = Callable[[httpx.Request], httpx.Response]


class Internet:
    """Names and their addresses, and what answers there."""

    def __init__(self, handler: Handler, **addresses: list[str]) -> None:
        self.handler = handler
        self.addresses = {name.replace("_", "."): found for name, found in addresses.items()}
        self.resolved: list[tuple[str, int]] = []
        self.asked: list[httpx.Request] = []

    async def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append((host, port))
        if host not in self.addresses:
            raise OSError("no such name")
        return self.addresses[host]

    async def fetch(self, url: str) -> bytes:
        def answer(request: httpx.Request) -> httpx.Response:
            self.asked.append(request)
            return self.handler(request)

        return await Download(LIMITS, resolve=self.resolve, transport=httpx.MockTransport(answer))(url)


def serving(content: bytes = b"image") -> Internet:
    return Internet(
        lambda _: httpx.Response(200, stream=httpx.ByteStream(content)),
        pictures_example=[PUBLIC],
        other_example=["1.1.1.1"],
    )


def redirecting(*locations: str) -> Internet:
    left = list(locations)

    def answer(_: httpx.Request) -> httpx.Response:
        return (
            httpx.Response(302, headers={"location": left.pop(0)})
            if left
            else httpx.Response(200, stream=httpx.ByteStream(b"image"))
        )

    return Internet(answer, pictures_example=[PUBLIC], other_example=["1.1.1.1"])


async def test_an_image_is_fetched_from_an_allowed_host() -> None:
    assert await serving().fetch("https://pictures.example/a.png?b=c") == b"image"


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    internet = serving()
    await internet.fetch("https://pictures.example/a.png")
    (request,) = internet.asked
    assert request.url == f"https://{PUBLIC}/a.png"
    assert request.headers["host"] == "pictures.example"
    assert request.extensions["sni_hostname"] == "pictures.example"  # whose certificate it must be
    assert internet.resolved == [("pictures.example", 443)]


async def test_ipv6_addresses_are_connected_to_as_well() -> None:
    internet = serving()
    internet.addresses["pictures.example"] = ["2606:2800:21f:cb07::1"]
    await internet.fetch("http://pictures.example/")
    assert internet.asked[0].url.host == "2606:2800:21f:cb07::1"


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere.example/",
        "http://pictures.example.evil.example/",
        "http://evil-pictures.example/",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://localhost/",
        "http://user@pictures.example/",
        "http://pictures.example@elsewhere.example/",
        "http://pictures.example:8080/",
        "https://pictures.example:80/",
        "ftp://pictures.example/",
        "http:///pictures.example",
        "http://",
    ],
)
async def test_every_other_address_is_refused_without_asking_anybody(url: str) -> None:
    internet = serving()
    with pytest.raises(InvalidImage, match=r"llmux.images.hosts"):
        await internet.fetch(url)
    assert internet.resolved == []
    assert internet.asked == []


@pytest.mark.parametrize("url", ["http://[", "http://pictures.example:port/", "http://pictures.example/\0"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidImage):
        await serving().fetch(url)


async def test_hosts_are_the_same_in_capital_letters() -> None:
    assert await serving().fetch("http://OTHER.example/") == b"image"


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.5"], ["169.254.169.254"], ["::1"], ["fe80::1%eth0"], [PUBLIC, "192.168.1.1"], []],
)
async def test_a_name_that_leads_into_a_private_network_is_refused(addresses: list[str]) -> None:
    internet = serving()
    internet.addresses["pictures.example"] = addresses
    with pytest.raises(InvalidImage, match="private network"):
        await internet.fetch("http://pictures.example/")
    assert internet.asked == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("0.0.0.0", False),
        ("100.64.0.1", False),
        ("172.16.0.1", False),
        ("192.0.2.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:1.1.1.1", False),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136::1", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_which_addresses_are_in_the_open_internet(address: str, public: bool) -> None:
    assert is_public(address) is public


async def test_a_redirect_is_followed_where_it_may_lead() -> None:
    internet = redirecting("/b.png", "https://other.example/c.png")
    assert await internet.fetch("http://pictures.example/a.png") == b"image"
    assert [str(request.url) for request in internet.asked] == [
        f"http://{PUBLIC}/a.png",
        f"http://{PUBLIC}/b.png",
        "https://1.1.1.1/c.png",
    ]


@pytest.mark.parametrize("location", ["http://127.0.0.1/", "http://elsewhere.example/", "file:///etc/hosts"])
async def test_a_redirect_is_judged_like_the_first_address(location: str) -> None:
    internet = redirecting(location)
    with pytest.raises(InvalidImage, match="not fetched from this address"):
        await internet.fetch("http://pictures.example/")
    assert len(internet.asked) == 1


async def test_a_name_that_moves_between_redirects_is_resolved_and_judged_again() -> None:
    internet = redirecting("/again")
    handler = internet.handler

    def rebind(request: httpx.Request) -> httpx.Response:
        internet.addresses["pictures.example"] = ["127.0.0.1"]
        return handler(request)

    internet.handler = rebind
    with pytest.raises(InvalidImage, match="private network"):
        await internet.fetch("http://pictures.example/")
    assert len(internet.asked) == 1


async def test_redirects_without_end_are_given_up() -> None:
    with pytest.raises(InvalidImage, match="redirects too often"):
        await redirecting(*["/again"] * 9).fetch("http://pictures.example/")


async def test_more_than_allowed_is_not_read() -> None:
    class Endless(httpx.AsyncByteStream):
        def __init__(self) -> None:
            self.read = 0

        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                self.read += 100
                yield b"x" * 100

    stream = Endless()
    internet = Internet(lambda _: httpx.Response(200, stream=stream), pictures_example=[PUBLIC])
    with pytest.raises(InvalidImage, match=r"up to 0.001 MB"):
        await internet.fetch("http://pictures.example/")
    assert stream.read == 1100


async def test_nothing_is_unpacked_on_the_way() -> None:
    internet = serving()
    await internet.fetch("http://pictures.example/")
    assert internet.asked[0].headers["accept-encoding"] == "identity"


async def test_an_answer_that_is_none_is_an_error_without_its_words() -> None:
    internet = Internet(lambda _: httpx.Response(404, content=b"secret"), pictures_example=[PUBLIC])
    with pytest.raises(InvalidImage, match="answers with 404") as refused:
        await internet.fetch("http://pictures.example/")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("error", [httpx.ConnectError("10.0.0.1 refused"), httpx.ReadTimeout("slow"), OSError("down")])
async def test_a_failure_on_the_way_is_an_error_without_its_words(error: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(InvalidImage, match="could not be fetched") as refused:
        await Internet(fail, pictures_example=[PUBLIC]).fetch("http://pictures.example/")
    assert str(error) not in str(refused.value)


async def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(InvalidImage, match="could not be fetched"):
        await Internet(lambda _: httpx.Response(200)).fetch("http://pictures.example/")


async def test_names_are_resolved_to_all_their_addresses() -> None:
    assert "127.0.0.1" in await resolve("localhost", 80)
