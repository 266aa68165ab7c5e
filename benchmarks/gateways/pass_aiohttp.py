"""A gateway that changes nothing but the model's name: aiohttp on both sides, bytes passed on as they come.

python pass_aiohttp.py PORT URL PLACES: URL of the server, and the paths behind the models' names as JSON
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

PLACES = json.loads(sys.argv[3])
UPSTREAM = web.AppKey("upstream", aiohttp.ClientSession)


async def chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    place, body["model"] = body["model"].split("/")
    session, url = request.app[UPSTREAM], f"{sys.argv[2]}/{PLACES[place]}/v1/chat/completions"
    async with session.post(url, json=body, headers={"authorization": "Bearer sk-upstream"}) as answer:
        if not body.get("stream"):
            return web.Response(body=await answer.read(), status=answer.status, content_type="application/json")
        stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await stream.prepare(request)
        async for block in answer.content.iter_any():
            await stream.write(block)
        await stream.write_eof()
        return stream


async def upstream(app: web.Application) -> AsyncIterator[None]:
    app[UPSTREAM] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    yield
    await app[UPSTREAM].close()


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(upstream)
    app.router.add_post("/v1/chat/completions", chat)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, backlog=4096)


if __name__ == "__main__":
    main()
