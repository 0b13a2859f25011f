"""Keeps the app running, as a kubelet would: restarted on purpose now and then, revived when it dies."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp

from exporter.address import Address
from exporter.demo.app import Bug, BugKind
from exporter.demo.children import Child

#: Seconds until an app that died is started anew.
REVIVE_AFTER = 1.0


class AppKeeper:
    """The app at one address, in one process after the other."""

    def __init__(
        self, address: Address, bug: Bug, log: Path, http: aiohttp.ClientSession, say: Callable[[str], None]
    ) -> None:
        self.address = address
        self._bug = bug
        self._log = log
        self._http = http
        self._say = say
        self._app: Child | None = None

    async def start(self) -> Child:
        """Start the app and wait until it accepts connections.

        :raises DemoError: when it does not.
        """
        command = [sys.executable, "-m", "exporter.demo.app", "--port", str(self.address.port)]
        command += ["--bug-rate", str(self._bug.rate), "--bug-kind", self._bug.kind]
        self._app = await Child.start("app", command, self._log)
        await self._app.up(self._learn_bug)
        return self._app

    async def keep(self, restart_every: float) -> None:
        """Restart it every so many seconds (0: never) and whenever it dies, until cancelled.

        :raises DemoError: when it does not start again.
        """
        while True:
            app = self._app or await self.start()
            try:
                status = await asyncio.wait_for(app.ended(), restart_every or None)
            except TimeoutError:
                self._say("the app restarts; it says 1001 to everybody")
                await self._learn_bug()
                await app.stop()
            else:
                self._say(f"the app died (status {status}); it is started anew")
                await asyncio.sleep(REVIVE_AFTER)
            self._app = None

    async def stop(self) -> None:
        """End the app, if there is one."""
        if self._app is not None:
            await self._app.stop()

    async def _learn_bug(self) -> bool:
        """Remember how the bug is set, so that a restart does not mend it. Whether the app answered."""
        try:
            async with self._http.get(f"http://{self.address}/bug") as answer:
                bug = json.loads(await answer.text())
        except (aiohttp.ClientError, TimeoutError):
            return False
        self._bug = Bug(bug["rate"], BugKind(bug["kind"]))
        return True
