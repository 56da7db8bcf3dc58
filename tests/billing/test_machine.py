"""The ledger and its model do the same, whatever is done to them. `make prove` does more of it."""

import asyncio
import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from billing.db import make_engine, make_sessions
from tests.billing.machine import machine_for
from tests.billing.machine_plans import ensure_machine_plans

EXAMPLES = 12
STEPS = 40


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop of its own: hypothesis is not a coroutine, and connections belong to one loop."""
    with asyncio.Runner() as runner:
        yield runner


def test_the_ledger_equals_its_model_whatever_is_done_to_it(
    runner: asyncio.Runner, database_url: str
) -> None:
    chosen = int(os.environ.get("CUTOUT_PROOF_SEED", random.randrange(2**32)))  # noqa: S311
    print(f"\nstate machine: CUTOUT_PROOF_SEED={chosen}")  # noqa: T201 - to run it again
    # A machine that is busy elsewhere may keep a racer waiting longer than a caller would.
    engine = make_engine(
        database_url,
        server_settings={"lock_timeout": "60000", "statement_timeout": "60000"},
        pool_pre_ping=False,
    )
    sessions = make_sessions(engine)
    runner.run(ensure_machine_plans(sessions))
    machine = seed(chosen)(machine_for(runner, sessions))
    quick = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=quick)
    finally:
        runner.run(engine.dispose())
