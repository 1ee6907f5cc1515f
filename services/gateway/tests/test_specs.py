"""The gateway's own description, as it is served."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from roundtable.common.codegen.asyncapi import asyncapi
from roundtable.common.codegen.openapi import openapi
from roundtable.gateway.specs import spec_routes


@pytest.mark.rule("OP2", "OP3")
@pytest.mark.parametrize(("path", "document"), [("/asyncapi.json", asyncapi()), ("/openapi.json", openapi())])
async def test_the_documents_are_those_that_are_generated(path: str, document: dict[str, Any]) -> None:
    transport = httpx.ASGITransport(Starlette(routes=spec_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://table") as client:
        answer = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert json.loads(answer.content) == document
    assert (again.status_code, again.content) == (304, b"")
