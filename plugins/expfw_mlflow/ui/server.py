"""MLflow's server with a first page that selects the view for model training.

MLflow 3.17 shows every experiment in its view for language models until the user switches; the browser saves the choice
in its local storage. The first page sets this value if the user has not chosen yet. The entry point `mlflow.app`
provides it as `mlflow server --app-name expfw`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request

# In the format of the front end's useLocalStorage: NAME_vVERSION, JSON.
LOCAL_STORAGE_VALUES = {
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,  # otherwise a panel for a language model opens
}
SCRIPT = f"""<script>
for (const [name, value] of Object.entries({json.dumps(LOCAL_STORAGE_VALUES)}))
  if (localStorage.getItem(name) === null) localStorage.setItem(name, JSON.stringify(value));
</script>"""
_CONDITIONAL_HEADERS = (b"if-none-match", b"if-modified-since")
_OUTDATED_HEADERS = ("content-length", "etag", "last-modified")


def make_server_command(uri: str, artifact_uri: str, host: str, port: int) -> list[str]:
    """Returns the command of a server for a store."""
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # avoids seven processes that only language models need
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri  # other users can read the command line, and it may have a password
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "expfw", "--workers", "1"]
    command += ["--default-artifact-root", artifact_uri]
    command.append("--uvicorn-opts=--log-level warning")  # a log line for each request would hide the address
    return [*command, "--host", host, "--port", str(port)]


def app() -> Any:
    """Creates MLflow's application with this page; a factory, because MLflow's command imports this module too."""
    from mlflow.server.fastapi_app import app as mlflow_app

    mlflow_app.middleware("http")(add_script_to_first_page)
    return mlflow_app


async def add_script_to_first_page(request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Any:
    """Adds the script to the page `/`; other requests are unchanged."""
    from starlette.responses import Response

    if request.method != "GET" or request.url.path != "/":
        return await call_next(request)
    # The browser may have cached the page of a server without the script.
    request.scope["headers"] = [
        (name, value) for name, value in request.headers.raw if name not in _CONDITIONAL_HEADERS
    ]
    response = await call_next(request)
    if response.status_code != 200:
        return response
    body = b"".join([part async for part in response.body_iterator])
    headers = {name: value for name, value in response.headers.items() if name not in _OUTDATED_HEADERS}
    return Response(body.replace(b"<head>", b"<head>" + SCRIPT.encode(), 1), headers=headers)
