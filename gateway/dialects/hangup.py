"""A caller who hangs up is taken at his word: the server tells, nothing else would.

An ASGI handler is not cancelled when its client goes; it runs to its end, for nobody.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.dialects.forms import AnyRequest
from gateway.errors import InvalidRequestError

T = TypeVar("T")


async def while_connected(request: AnyRequest, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, cancelled once the caller is gone; the body must have been read.

    Raises:
        InvalidRequestError: he is gone; nobody reads the answer.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_until_gone(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise InvalidRequestError("the client hung up")
    finally:
        leaving.cancel()
        working.cancel()
        # What it took has to be given back before the body, which it may be reading, is closed.
        await asyncio.gather(working, leaving, return_exceptions=True)
        # An error's trace holds this frame, and the task the error: a ring that would keep a whole
        # upload in memory until the collector comes by.
        del working, leaving


async def _until_gone(request: AnyRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # what follows a form's end
