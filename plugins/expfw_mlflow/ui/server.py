"""MLflow's server with another first page: whoever opens it sees model training.

MLflow 3.17 shows every experiment in its view for language models, whatever its kind, until the person has switched
once; the browser remembers that, in its local storage. This page puts there what nobody has chosen yet. An entry point
`mlflow.app` makes it `mlflow server --app-name expfw`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request

# As the front end's useLocalStorage writes them: NAME_vVERSION, JSON.
LOCAL_STORAGE_VALUES = {
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,  # else a panel for a language model takes a quarter
}
SCRIPT = f"""<script>
for (const [name, value] of Object.entries({json.dumps(LOCAL_STORAGE_VALUES)}))
  if (localStorage.getItem(name) === null) localStorage.setItem(name, JSON.stringify(value));
</script>"""
_CONDITIONAL_HEADERS = (b"if-none-match", b"if-modified-since")


def app() -> Any:
    """MLflow's own application with that page; a factory, since MLflow's command imports this module too."""
    from mlflow.server.fastapi_app import app as mlflow_app

    mlflow_app.middleware("http")(add_script_to_first_page)
    return mlflow_app


async def add_script_to_first_page(request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Any:
    """Adds the script to the one page that there is; all else goes through."""
    if request.method != "GET" or request.url.path != "/":
        return await call_next(request)
    # The browser may have the page from a server without the script.
    request.scope["headers"] = [
        (name, value) for name, value in request.headers.raw if name not in _CONDITIONAL_HEADERS
    ]
    response = await call_next(request)
    if response.status_code == 200:
        body = b"".join([part async for part in response.body_iterator])
        body = body.replace(b"<head>", b"<head>" + SCRIPT.encode(), 1)
        response.body_iterator = _yield_once(body)
        response.headers["content-length"] = str(len(body))
        for name in ("etag", "last-modified"):
            if name in response.headers:
                del response.headers[name]
    return response


async def _yield_once(body: bytes) -> AsyncIterator[bytes]:
    yield body
