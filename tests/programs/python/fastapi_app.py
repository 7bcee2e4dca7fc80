"""The test services' HTTP API on FastAPI: `uvicorn fastapi_app:app`."""

import asyncio
import time

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from service import Record, body

record = Record()
client = httpx.AsyncClient(trust_env=False)


class Recorded:
    """ASGI middleware: times a request from the call of the application to its last send."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] in ("/counts", "/durations"):
            return await self.app(scope, receive, send)
        begin = time.perf_counter_ns()
        status = 0

        async def observed(message):
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self.app(scope, receive, observed)
        record.add(scope["path"], status, time.perf_counter_ns() - begin)


app = FastAPI(openapi_url=None)
app.add_middleware(Recorded)


@app.api_route("/status/{code}", methods=["GET", "HEAD", "DELETE"])
async def status(code: int):
    return Response(status_code=code)


@app.get("/delay/{ms}")
async def delay(ms: float):
    if ms:
        await asyncio.sleep(ms / 1000)
    return {"delay": ms}


@app.post("/upload")
async def upload(request: Request):
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return {"size": size}


@app.api_route("/bytes/{size}", methods=["GET", "HEAD"])
async def sized(size: int):
    return StreamingResponse(body(size), headers={"content-length": str(size)}, media_type="text/plain")


@app.get("/chunked/{size}")
async def chunked(size: int):
    return StreamingResponse(body(size), media_type="text/plain")


@app.get("/users/{user}")
async def users(user: int):
    return {"user": user}


@app.get("/proxy")
async def proxy(port: int, path: str):
    answer = await client.get(f"http://127.0.0.1:{port}{path}")
    return Response(answer.content, status_code=answer.status_code)


@app.get("/counts")
async def counts():
    return record.counts()


@app.get("/durations")
async def durations():
    return record.durations()
