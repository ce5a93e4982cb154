from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from loop_common import run

app = FastAPI()


@app.post("/chat")
async def chat(request: Request, model: str):
    body = await request.json()
    return StreamingResponse(run(body["messages"], model), media_type="text/event-stream")
