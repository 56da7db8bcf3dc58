"""The demo's calls: what a customer's program does in each dialect."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from gateway.cli.samples import Samples

POLL_S: Final = 0.1
TASK_DEADLINE_S: Final = 60.0


class DemoError(Exception):
    """The gateway did not answer as it should."""


@dataclass(frozen=True, slots=True)
class Made:
    """One cutout that came back."""

    name: str
    dialect: str
    link: str
    path: Path
    elapsed_ms: int
    model: str
    confidence: float
    charged_credits: int


class Calls:
    """The demo's calls in both dialects.

    Args:
        client: of the gateway's URL.
        api_key: of the demo account.
        samples: the photographs, served.
        folder: where cutouts go.
    """

    def __init__(self, client: httpx.Client, api_key: str, samples: Samples, folder: Path) -> None:
        self._client = client
        self._api_key = api_key
        self._samples = samples
        self._folder = folder

    def make(self, dialect: str, name: str) -> Made:
        """Cut one photograph out and download the result."""
        started = time.monotonic()
        answer = self._codia(name) if dialect == "Codia" else self._revid(name)
        elapsed_ms = round((time.monotonic() - started) * 1000)
        document = answer.json()
        facts = document if dialect == "Codia" else document["result"]
        link = (document["data"] if dialect == "Codia" else facts)["image_url"]
        path = self._folder / f"{name}-{dialect.lower()}.png"
        path.write_bytes(self._client.get(link).raise_for_status().content)
        return Made(
            name=name,
            dialect=dialect,
            link=link,
            path=path,
            elapsed_ms=elapsed_ms,
            model=facts["model"],
            confidence=document["confidence"],
            charged_credits=int(answer.headers["X-Credits-Charged"]),
        )

    def fail_codia(self) -> str:
        """Name a text file as the picture."""
        (self._samples.folder / "not-a-picture.txt").write_text("This is not a picture.\n")
        url = self._samples.url_of("astronaut").replace("astronaut.jpg", "not-a-picture.txt")
        answer = self._post_codia(url)
        if answer.is_success:
            raise DemoError("a text file was cut out")
        return f"{answer.status_code} {answer.text}"

    def fail_revid(self) -> str:
        """Upload a GIF."""
        gif = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
        document = self._finished_task("tiny.gif", gif).json()
        if document["status"] != "failed":
            raise DemoError("a GIF was cut out")
        return f"{document['message']}: {document['result']['error']}"

    def _codia(self, name: str) -> httpx.Response:
        answer = self._post_codia(self._samples.url_of(name))
        if not answer.is_success:
            raise DemoError(f"Codia answered {answer.status_code}: {answer.text}")
        return answer

    def _post_codia(self, url: str) -> httpx.Response:
        return self._client.post(
            "/v1/open/remove_bg",
            headers={"Authorization": f"Bearer {self._api_key}"},
            json={"image_url": url},
        )

    def _revid(self, name: str) -> httpx.Response:
        path = self._samples.path_of(name)
        answer = self._finished_task(path.name, path.read_bytes())
        if answer.json()["status"] != "completed":
            raise DemoError(f"Revid's task ended: {answer.text}")
        return answer

    def _finished_task(self, file_name: str, content: bytes) -> httpx.Response:
        """Start a task and ask for it until it has ended."""
        answer = self._client.post(
            "/paid/image/remove/background",
            headers={"x-api-key": self._api_key},
            files={"file": (file_name, content)},
            data={"model": "u2net"},
        )
        if not answer.is_success:
            raise DemoError(f"Revid answered {answer.status_code}: {answer.text}")
        deadline = time.monotonic() + TASK_DEADLINE_S
        while time.monotonic() < deadline:
            task = self._client.get(f"/api/get/{answer.json()['task_id']}")
            if task.json()["status"] in {"completed", "failed"}:
                return task
            time.sleep(POLL_S)
        raise DemoError("Revid's task did not end in time")
