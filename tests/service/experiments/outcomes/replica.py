"""A process with a ledger, to be killed: ``python -m tests.service.experiments.outcomes.replica URL ID BURSTS``.

Adds bursts of responses of the same few users as every other replica, in an order of its own, flushes after each, and
prints how many it has added so far, once they were committed. ``BURSTS`` 0 goes on for ever. Waits for a line first.
"""

import random
import sys

from service.experiments.outcomes.ledger import Ledger
from service.experiments.outcomes.totals import Outcome
from service.storage.database import Database

BURST = 40
USERS = 4000


def main(url: str, replica: str, bursts: int) -> None:
    added = 0
    ledger = Ledger(Database(url), replica, lambda: 60.0 * (added // 400))
    chance = random.Random(replica)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    while not bursts or added < bursts * BURST:
        for _ in range(BURST):
            ledger.add(Outcome("e", 0, "a", f"user {chance.randrange(USERS)}", counted=True, by_user=True, tokens=1))
            added += 1
        ledger.flush()
        sys.stdout.write(f"{added}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
