"""The ledger against its model, for as many steps as asked: `make prove`, or this alone.

    python -m bench.proofs.state_machine --steps 200000 [--seed N]

Real Postgres, real commits (without fsync: it is correctness that is looked for here). Each example
ends with every rule asked of its account, the run with every rule asked of all of them. Prints the
seed first, so that what it finds can be found again.
"""

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path

import uvloop
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from bench.proofs.ground import breaches
from billing.db import make_engine, make_sessions
from gateway.embedded.services import Embedded
from migrations.run import upgrade
from tests.billing.machine import machine_for
from tests.billing.machine_plans import ensure_machine_plans

STEPS_AN_EXAMPLE = 50
EXAMPLES_A_ROUND = 50
# A machine that is busy elsewhere may keep a racer waiting longer than a caller would be.
UNHURRIED = dict.fromkeys(
    ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"), "0"
)


def prove(database_url: str, *, steps: int, first_seed: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        engine = make_engine(database_url, server_settings=UNHURRIED)
        sessions = make_sessions(engine)
        runner.run(ensure_machine_plans(sessions))
        base = machine_for(runner, sessions)
        rules = settings(
            max_examples=EXAMPLES_A_ROUND,
            stateful_step_count=STEPS_AN_EXAMPLE,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        started, rounds = time.monotonic(), 0
        while base.steps < steps:
            run_state_machine_as_test(seed(first_seed + rounds)(base), settings=rules)
            rounds += 1
            took_s = time.monotonic() - started
            pace = f"{took_s:.0f} s, {base.steps / took_s:.0f} a second"
            print(f"seed {first_seed + rounds - 1}: {base.steps} steps, {pace}", flush=True)
        broken = runner.run(breaches(sessions))
        assert broken == [], broken
        runner.run(engine.dispose())
    print(f"state machine: {base.steps} steps, 0 violations, {took_s:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))  # noqa: S311
    asked = parser.parse_args()
    print(f"state machine: seed {asked.seed}")
    with tempfile.TemporaryDirectory(prefix="cutout-proof-") as folder:
        Path(folder).chmod(0o711)
        with Embedded(Path(folder), is_durable=False) as embedded:
            upgrade(embedded.database_owner_url)
            prove(embedded.database_url, steps=asked.steps, first_seed=asked.seed)


if __name__ == "__main__":
    main()
