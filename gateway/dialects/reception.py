"""From a body to a cutout's request: what both dialects do alike.

The order is the order of cost: the caller's means before his upload, an answer that was given
before (Idempotency-Key) before any work is done again, his words before his picture.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from core import WEIGHTS, CutoutOptions
from core.errors import InvalidOptionError, WeightsNotInstalledError
from gateway.answers import CutoutRequest
from gateway.auth import Caller
from gateway.cutouts import Cutouts
from gateway.dialects.door import Door, idempotency_key_of
from gateway.dialects.forms import (
    MULTIPART,
    AnyRequest,
    Body,
    OptionsForm,
    read_json,
    read_multipart,
)
from gateway.errors import InvalidRequestError, UrlMalformedError, UrlNotAllowedError
from gateway.fetching.fetch import Fetcher
from gateway.settings import Settings
from gateway.shares import Shares
from gateway.source import Source


@dataclass(frozen=True, slots=True)
class Reception:
    """Reads bodies, and fetches what they name."""

    door: Door
    cutouts: Cutouts
    fetcher: Fetcher
    settings: Settings
    uploads: Shares

    @asynccontextmanager
    async def read(
        self,
        request: AnyRequest,
        caller: Caller,
        kind: str,
        form: type[OptionsForm],
        file_names: Sequence[str],
    ) -> AsyncIterator[Body]:
        """Read the body, if the caller can pay for what it asks; its upload is freed at the end.

        Raises:
            OverloadedError: too many uploads are under way, or too many of this account.
        """
        idempotency_key = idempotency_key_of(request)
        if kind == MULTIPART:
            await self.door.check_means(request, caller, idempotency_key)
            async with self.uploads.one(caller.key.account_id):
                body = await read_multipart(
                    request,
                    file_names=file_names,
                    field_names=form.__struct_fields__,
                    bytes_max=self.settings.upload_bytes_max,
                    memory_bytes_max=self.settings.spool_bytes_max,
                )
        else:
            body = await read_json(request)
            await self.door.check_means(request, caller, idempotency_key)
        try:
            body.idempotency_key = idempotency_key
            yield body
        finally:
            body.close()

    def ask(
        self, caller: Caller, body: Body, form: OptionsForm, *, dialect: str, model: str
    ) -> CutoutRequest:
        """Say what is asked for, as far as it is known before anything is fetched.

        Raises:
            InvalidRequestError: a `webhook_url` that is not allowed.
        """
        return CutoutRequest(
            caller=caller,
            source=body.file or Source(b""),
            model=form.model or model,
            options=CutoutOptions(),
            dialect=dialect,
            idempotency_key=body.idempotency_key,
            body_sha256=body.fingerprint(),
            webhook_url=self._checked(form.webhook_url),
        )

    def _checked(self, webhook_url: str | None) -> str | None:
        """Refuse at once what could never be told of its cutout.

        Raises:
            InvalidRequestError: the URL leads where we do not go.
        """
        if webhook_url is not None:
            try:
                self.fetcher.reach.check(webhook_url)
            except UrlMalformedError as exc:
                raise InvalidRequestError(f"webhook_url {exc.why}") from None
            except UrlNotAllowedError:
                rule = self.fetcher.reach.rule
                raise InvalidRequestError(f"webhook_url is not allowed: {rule}") from None
        return webhook_url

    async def with_options(
        self, asked: CutoutRequest, body: Body, form: OptionsForm
    ) -> CutoutRequest:
        """Check the model and the options, then fetch the background that the form names.

        It is freed with `body`.

        Raises:
            UnknownModelError, WeightsNotInstalledError: no such model runs here.
            InvalidOptionError: a value that cannot be honoured.
            UrlNotAllowedError, UrlUnreachableError, SourceTooLargeError: of `bg_image_url`.
        """
        model, _ = self.cutouts.inference.resolve(asked.model)
        if form.clothes != "all":
            _check_clothes(asked.model, model)
        options = form.options()
        if form.bg_image_url is not None:
            replace(options, bg_image=b"")  # refuses what has no background
            body.background = await self.fetcher.fetch(
                form.bg_image_url, asked.caller.key.account_id, field="bg_image_url"
            )
        return replace(asked, options=options, background=body.background)


def _check_clothes(asked: str, model: str) -> None:
    """Refuse clothes where neither the model that was asked for nor its stand-in has them."""
    if WEIGHTS[model].classes:
        return
    if asked in WEIGHTS and WEIGHTS[asked].classes:
        raise WeightsNotInstalledError(asked)
    name = asked if asked in WEIGHTS else model
    raise InvalidOptionError("clothes", f"{name} does not tell clothes apart")
