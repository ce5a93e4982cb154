from loop_common import run
from quart import request
from quart_trio import QuartTrio

app = QuartTrio(__name__)


@app.post("/chat")
async def chat():
    body = await request.get_json()
    gen = run(body["messages"], request.args["model"])

    async def out():
        async for s in gen:
            yield s.encode()

    r = await app.make_response((out(), 200, {"content-type": "text/event-stream"}))
    r.timeout = None
    return r
