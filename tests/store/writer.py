"""A process that writes a study until it is killed, telling what it has done on standard output.

writer.py batches FOLDER FIRST       add batch after batch, printing the number of each once it is durable
writer.py calmly FOLDER FIRST        the same, with a pause after each
writer.py stuck FOLDER               stop for ever inside a transaction too big for the cache
writer.py onebyone FOLDER            the same, with the planted bug of a commit after every row
writer.py sized FOLDER FIRST BYTES   as batches, and the kernel kills it in the write that passes BYTES
writer.py full FOLDER FIRST BYTES    as batches, and that write fails instead
writer.py fork FOLDER                hold the study, print the number of a forked worker that sleeps
writer.py open FOLDER                open the study as its writer, print the refusal and the seconds it took
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from studies import batch, registration, result

from qkvlab.errors import StoreError
from qkvlab.study.store import Store


def say(*words: object) -> None:
    print(*words, flush=True)


def add_batches(store: Store, first: int, pause: float = 0.0) -> None:
    say("ready")
    for number in range(first, first + 95):  # twenty such runs fit into the seeds of the study
        store.add(batch(number))
        say(number)
        time.sleep(pause)
    time.sleep(600)


def stop_inside(store: Store, *, one_by_one: bool) -> None:
    place, count, last = Store._place, itertools.count(1), 41 if one_by_one else 601

    def slow(self: Store, record: Any) -> None:
        place(self, record)
        if one_by_one:
            self._db.execute("COMMIT")
            self._db.execute("BEGIN")
        if next(count) == last:
            say("ready")
            time.sleep(600)

    store._db.execute("PRAGMA cache_size=2")
    Store._place = slow
    store.add([result(seed) for seed in range(400, 2400)])


def main(mode: str, folder: str, *numbers: str) -> None:
    if mode in ("sized", "full"):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if mode == "sized" else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(numbers[-1]), resource.RLIM_INFINITY))
    begun = time.perf_counter()
    try:
        with Store.create_or_continue(Path(folder), registration()) as store:
            if mode == "open":
                say("opened")
            elif mode == "fork":
                if not os.fork():
                    say(os.getpid())
                    time.sleep(60)
                    os._exit(0)
                time.sleep(600)
            elif mode in ("stuck", "onebyone"):
                stop_inside(store, one_by_one=mode == "onebyone")
            else:
                add_batches(store, int(numbers[0]), 0.02 if mode == "calmly" else 0.0)
    except StoreError as error:
        say(f"refused after {time.perf_counter() - begun:.3f} s: {error}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
