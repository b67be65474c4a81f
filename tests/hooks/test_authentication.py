from pathlib import Path
from typing import cast

import pytest
from fastapi import Request

from hooks.authentication import authentication
from llmux.errors import Unauthenticated
from llmux.keys import KeyFile

MASTER = "sk-the-master-key-of-this-test"
NO_REQUEST = cast(Request, None)


async def test_the_master_key_may_do_everything(tmp_path: Path) -> None:
    who = await authentication(MASTER, KeyFile(tmp_path))(NO_REQUEST, MASTER)
    assert (who.key_alias, who.models, who.user_role) == ("master", [], "proxy_admin")


async def test_a_named_key_brings_its_name_and_its_models(tmp_path: Path) -> None:
    key = KeyFile(tmp_path).create("Open WebUI", ["Small"])
    who = await authentication(MASTER, KeyFile(tmp_path))(NO_REQUEST, f"Bearer {key}")
    assert (who.key_alias, who.models, who.user_role) == ("Open WebUI", ["Small"], "internal_user")


@pytest.mark.parametrize("given", [None, "", "Bearer ", "Basic abc", "sk-wrong", MASTER[:-1], MASTER + "x"])
async def test_a_missing_malformed_or_wrong_key_is_a_401(tmp_path: Path, given: str | None) -> None:
    with pytest.raises(Unauthenticated) as raised:
        await authentication(MASTER, KeyFile(tmp_path))(NO_REQUEST, given)
    assert raised.value.status_code == 401
    assert "sk-" not in str(raised.value)


async def test_a_revoked_key_is_wrong_at_once(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    ask = authentication(MASTER, keys)
    key = keys.create("OpenCode")
    await ask(NO_REQUEST, key)
    keys.revoke("OpenCode")
    with pytest.raises(Unauthenticated):
        await ask(NO_REQUEST, key)
