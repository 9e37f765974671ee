#!/usr/bin/env python3
"""The ledger itself: over a file system in memory it says nothing of one that is good, and finds each that is not."""

import random
import threading
import time

import ledger
from hand import Dead, Refused


class Memory:
    """A file system in memory that answers as a hand does. `broken` is what is wrong with it."""

    def __init__(self, seed, broken=None):
        self.random, self.broken, self.lock = random.Random(seed), broken, threading.Lock()
        self.nodes, self.checking = {}, False

    def ask(self, verb, path, *words, payload=b""):
        with self.lock:
            # Some are done and not answered, some not done: both happen to who is killed.
            fate = 1 if self.checking or verb in ("walk", "read", "xattrs", "recover") else self.random.random()
            if fate < 0.03:
                raise Dead()
            answer = self.work(verb, path, *words, payload=payload)
            if fate < 0.06:
                raise Refused("not answered")
            return answer

    def work(self, verb, path, *words, payload):
        forget = self.broken == verb and not self.checking and self.random.random() < 0.2
        if forget:
            return b""
        nodes = self.nodes
        below = [other for other in nodes if other == path or other.startswith(path + "/")]
        if verb == "mkdir":
            nodes.setdefault(path, [None, {}])
        elif verb in ("create", "open"):
            nodes[path] = [payload, {}]
        elif verb in ("append", "sync"):
            nodes[path][0] += payload
        elif verb == "truncate":
            nodes[path][0] = nodes[path][0][:int(words[0])]
        elif verb == "rename":
            for other in below:
                nodes[words[0] + other[len(path):]] = nodes.pop(other)
        elif verb == "delete":
            for other in below:
                del nodes[other]
        elif verb == "setx":
            nodes[path][1][words[0]] = payload.hex()
        elif verb == "unsetx":
            del nodes[path][1][words[0]]
        elif verb == "walk":
            return "".join(f"{'d' if data is None else 'f'} {len(data or b'')} {other}\n"
                           for other, (data, _) in sorted(nodes.items()) if other.startswith(path + "/")).encode()
        elif verb == "xattrs":
            return "".join(f"{name} {value}\n" for name, value in nodes[path][1].items()).encode()
        elif verb == "read":
            data = nodes[path][0]
            wrong = self.broken == "bytes" and self.checking and len(data) > 1000
            return data[:500] + bytes([data[500] ^ 1]) + data[501:] if wrong else data
        return b""


def violations(broken, seconds):
    """What the ledger says of a file system within some checks."""
    memory = Memory(1, broken)
    # Who is told nothing waits for no server here.
    load = ledger.Load({"memory": memory}, memory, 2, 7)
    end, said = time.monotonic() + seconds, []
    while not said and time.monotonic() < end:
        load.resume()
        time.sleep(0.2)
        load.rest()
        memory.checking = True
        said = load.check(everything=True)
        memory.checking = False
    told = load.told()
    load.end()
    return said, told


def main():
    ledger.PAUSE = 0
    said, told = violations(None, 3)
    assert not said, said
    for broken in ("mkdir", "create", "append", "truncate", "rename", "delete", "setx", "unsetx", "sync", "bytes"):
        said, _ = violations(broken, 20)
        assert said, f"a file system that forgets {broken} looks good"
    print(f"the ledger finds what is wrong, and nothing else ({told})")


if __name__ == "__main__":
    main()
