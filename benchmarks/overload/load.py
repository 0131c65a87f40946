"""The clients."""

from __future__ import annotations

import asyncio
import io
import random
import resource
import time
from dataclasses import dataclass, field

import aiohttp
from PIL import Image

CLIENTS = 360  # five times the 72 places of an engine as it comes
PROBE_S = 0.2
PATIENCE_S = 60.0
OK, TOO_MANY, FULL = 200, 429, 503


def picture(width: int, height: int, *, noise: bool) -> bytes:
    """A PNG: flat, or, as a screenshot's, of some hundred kilobytes."""
    image = Image.new("RGB", (width, height), "white")
    if noise:
        patch = Image.frombytes(
            "RGB", (width // 3, height // 3), random.Random(1).randbytes(width // 3 * (height // 3) * 3)
        )
        image.paste(patch, (10, 10))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@dataclass
class Counts:
    """Seconds of what was answered and refused, and of `/health`; statuses that nobody expects; the load's own CPU."""

    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    cpu: float = 0.0


class Load:
    """Clients of one address."""

    def __init__(self, session: aiohttp.ClientSession, url: str, counts: Counts) -> None:
        self._session, self._url, self.counts = session, url, counts

    async def ask(self, token: str, image: bytes) -> tuple[int, float]:
        """Status, and how long to wait before another try."""
        form = aiohttp.FormData()
        form.add_field("image", image, filename="screen.png", content_type="image/png")
        form.add_field("prompt", "Open May 4.")
        headers, begun = {"Authorization": f"Token {token}"}, time.monotonic()
        async with self._session.post(f"{self._url}/api/v1/infer/", data=form, headers=headers) as answer:
            await answer.read()
            taken = time.monotonic() - begun
            if answer.status == OK:
                self.counts.answered.append(taken)
            elif answer.status in (TOO_MANY, FULL):
                self.counts.refused.append(taken)
            else:
                self.counts.others.append(str(answer.status))
            return answer.status, float(answer.headers.get("Retry-After", 0))

    async def client(self, token: str, image: bytes, until: float) -> None:
        """Ask again and again, and come back when told to."""
        await asyncio.sleep(random.random())
        while time.monotonic() < until:
            try:
                _, wait = await self.ask(token, image)
            except (aiohttp.ClientError, TimeoutError) as error:
                self.counts.others.append(type(error).__name__)
                wait = 1.0
            await asyncio.sleep(wait)

    async def health(self, until: float) -> None:
        """Ask for it all the while."""
        while time.monotonic() < until:
            begun = time.monotonic()
            async with self._session.get(f"{self._url}/health") as answer:
                await answer.read()
                self.counts.health.append(time.monotonic() - begun)
            await asyncio.sleep(PROBE_S)


async def flood(url: str, tokens: list[str], image: bytes, seconds: float) -> Counts:
    """All clients at once, for so long."""
    counts, begun, used = Counts(), time.monotonic(), _cpu()
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(PATIENCE_S)) as session:
        load, until = Load(session, url, counts), begun + seconds
        clients = [load.client(tokens[number % len(tokens)], image, until) for number in range(CLIENTS)]
        await asyncio.gather(load.health(until), *clients)
    counts.cpu = (_cpu() - used) / (time.monotonic() - begun)
    return counts


async def beside(url: str, tokens: list[str], large: bytes, tiny: bytes, many: int) -> tuple[float, float]:
    """Seconds of one user's tiny request alone, and beside `many` large ones of another, who has begun before."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        load, until = Load(session, url, Counts()), time.monotonic() + 5
        await load.ask(tokens[1], tiny)
        begun = time.monotonic()
        await load.ask(tokens[1], tiny)
        alone = time.monotonic() - begun
        others = [asyncio.ensure_future(load.client(tokens[0], large, until)) for _ in range(many)]
        await asyncio.sleep(1.5)
        begun = time.monotonic()
        status, _ = await load.ask(tokens[1], tiny)
        taken = time.monotonic() - begun if status == OK else float("inf")
        await asyncio.gather(*others)
    return alone, taken


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
