"""Writers that note what was acknowledged, and the comparison of that with what is there.

Each writer has a folder of its own, so that it knows what must be there. A request that was not answered, or answered with an
error, leaves its paths in doubt: they are not touched again until a check has seen which of the outcomes that may be became
true. Any other state is a violation.
"""

import concurrent.futures
import random
import threading
import time

from hand import Dead, Hung, Refused
from patience import stretched

# How long one request may be refused once everything runs.
READING = 60
# How long a writer rests whose program was killed.
PAUSE = 0.2
FILES = 24
FOLDERS = 8
NAMES = ["user.a", "user.b"]
# What is said of something that must be there.
GONE = ["nothing was there", "not renamed", "does not exist", "No such file"]


class Node:
    """A folder (no data) or a file. Of a file in doubt only the first `floor` bytes are sure."""

    def __init__(self, data=None, xattrs=None, floor=None):
        self.data, self.xattrs, self.floor = data, dict(xattrs or {}), floor

    def is_file(self):
        return self.data is not None

    def length_fits(self, length):
        return length == len(self.data) if self.floor is None else self.floor <= length <= len(self.data)

    def fits(self, seen):
        """Whether `seen`, which is read, is this."""
        if seen is None or seen.is_file() != self.is_file() or seen.xattrs != self.xattrs:
            return False
        return not self.is_file() or (self.length_fits(len(seen.data)) and self.data.startswith(seen.data))

    def __str__(self):
        if not self.is_file():
            return f"a folder with {self.xattrs}"
        least = "" if self.floor is None else f"{self.floor} to "
        return f"a file of {least}{len(self.data)} bytes with {self.xattrs}"


class Writer(threading.Thread):
    """Works in a folder until it is stopped."""

    def __init__(self, hand, root, seed):
        super().__init__(daemon=True)
        self.hand, self.root = hand, root
        self.random = random.Random(seed)
        self.tree = {}
        # Of each request without a sure outcome: what may be, each a path -> Node or None for nothing.
        self.doubts, self.shy = [], set()
        self.touched, self.names = set(), 0
        self.stream = None
        self.done, self.failed, self.reads, self.refused = 0, 0, 0, {}
        self.violations, self.slowest = [], (0, "")
        # Of what follows it changes and is told under `turn` alone, so that nobody takes it for resting who begins a step.
        self.turn = threading.Condition()
        self.goes, self.rests, self.over = False, True, False

    # Told by others.

    def resume(self):
        with self.turn:
            self.goes = True
            self.turn.notify_all()

    def pause(self):
        with self.turn:
            self.goes = False

    def paused(self, seconds):
        with self.turn:
            return self.turn.wait_for(lambda: self.rests, seconds)

    def end(self):
        with self.turn:
            self.goes = self.over = True
            self.turn.notify_all()

    def may_go_on(self):
        """Rests until it is resumed; false when all is over."""
        with self.turn:
            if not self.goes:
                self.rests = True
                self.turn.notify_all()
                self.turn.wait_for(lambda: self.goes)
            self.rests = self.over
            return not self.over

    def run(self):
        # The folder itself is made before anything is counted.
        while self.may_go_on():
            try:
                self.step()
                continue
            except Hung as error:
                self.violations.append(str(error))
            except Exception as error:  # noqa: BLE001 - a writer that ends would look like one that is happy
                self.violations.append(f"the writer itself: {error!r}")
            break
        with self.turn:
            self.rests = True
            self.turn.notify_all()

    # What it does.

    def step(self):
        choices = [(self.mkdir, 2), (self.create, 5), (self.append, 3), (self.truncate, 2), (self.rename, 3),
                   (self.rename_folder, 1), (self.delete, 3), (self.delete_folder, 0.3), (self.setx, 2), (self.unsetx, 1),
                   (self.overwrite, 1), (self.write_on, 4), (self.read, 3)]
        verbs, weights = zip(*choices)
        self.random.choices(verbs, weights)[0]()

    def ask(self, after, before, *words, payload=b"", instead=None):
        """
        Asks, and takes what was as `after` tells once it is acknowledged. Else either is possible, or one of `instead`.
        """
        paths = set(after) | set(before)
        began = time.monotonic()
        try:
            self.hand.ask(*words, payload=payload)
            self.slowest = max(self.slowest, (time.monotonic() - began, " ".join(map(str, words))))
        except (Dead, Refused) as error:
            self.failed += 1
            self.tell(error)
            if any(word in str(error) for word in GONE):
                self.violations.append(f"{' '.join(map(str, words))}: {error}")
            for path in paths:
                self.tree.pop(path, None)
            self.doubts.append(instead or [before, after])
            self.shy |= paths
            if isinstance(error, Dead):
                self.stream_lost()
                time.sleep(PAUSE)
            return False
        self.done += 1
        for path in paths:
            if after.get(path) is None:
                self.tree.pop(path, None)
            else:
                self.tree[path] = after[path]
        self.touched |= paths
        return True

    def tell(self, error):
        text = str(error).split("\n")[0] or type(error).__name__
        # Paths and numbers apart, so that the same is counted together.
        text = " ".join(word for word in text.split() if not any(sign in word for sign in "/0123456789"))
        self.refused[text[:100]] = self.refused.get(text[:100], 0) + 1

    def folders(self):
        return [path for path, node in self.tree.items() if not node.is_file()]

    def files(self):
        return [path for path, node in self.tree.items() if node.is_file()]

    def new_path(self):
        self.names += 1
        return f"{self.random.choice([*self.folders(), self.root])}/{self.names}"

    def data(self):
        # Some of several blocks, most small.
        most = self.random.choice([300, 20_000, 20_000, 150_000, 700_000])
        return self.random.randbytes(self.random.randrange(most))

    def a_file(self):
        files = self.files()
        return self.random.choice(files) if files else None

    def mkdir(self):
        if len(self.folders()) >= FOLDERS:
            return self.delete_folder()
        path = self.new_path()
        return self.ask({path: Node()}, {path: None}, "mkdir", path)

    def create(self):
        if len(self.files()) >= FILES:
            return self.delete()
        path, data = self.new_path(), self.data()
        return self.put(path, data, None, "create")

    def overwrite(self):
        if path := self.a_file():
            self.put(path, self.data(), self.tree[path], "create")

    def put(self, path, data, before, *words):
        """A file of new content: unless it is acknowledged, any beginning of it may be there."""
        may_be = [{path: before}, {path: Node(data, floor=0)}]
        self.ask({path: Node(data)}, {path: before}, *words, path, payload=data, instead=may_be)

    def append(self):
        if path := self.a_file():
            old, more = self.tree[path], self.data()
            whole = Node(old.data + more, old.xattrs)
            may_be = [{path: Node(whole.data, old.xattrs, floor=len(old.data))}]
            self.ask({path: whole}, {path: old}, "append", path, payload=more, instead=may_be)

    def truncate(self):
        if path := self.a_file():
            old = self.tree[path]
            length = self.random.randrange(len(old.data) + 1)
            self.ask({path: Node(old.data[:length], old.xattrs)}, {path: old}, "truncate", path, length)

    def rename(self):
        if path := self.a_file():
            self.move(path, self.new_path())

    def rename_folder(self):
        if folders := self.folders():
            path = self.random.choice(folders)
            self.names += 1
            self.move(path, f"{self.root}/{self.names}")

    def move(self, path, to):
        moved = self.below(path)
        if self.hidden(path):
            return
        gone = dict.fromkeys(moved)
        new = {to + old[len(path):]: node for old, node in moved.items()}
        none = dict.fromkeys(new)
        self.ask({**gone, **new}, {**moved, **none}, "rename", path, to)

    def below(self, path):
        return {other: node for other, node in self.tree.items() if other == path or other.startswith(path + "/")}

    def hidden(self, path):
        """Whether something below it is in doubt or open: then nobody knows what would move with it."""
        inside = [*self.shy, *([self.stream[0]] if self.stream else [])]
        return any(other.startswith(path + "/") for other in inside)

    def delete(self):
        if path := self.a_file():
            self.ask({path: None}, {path: self.tree[path]}, "delete", path)

    def delete_folder(self):
        if folders := self.folders():
            path = self.random.choice(folders)
            if not self.hidden(path):
                gone = self.below(path)
                self.ask(dict.fromkeys(gone), gone, "delete", path)

    def setx(self):
        if not self.tree:
            return
        path, name = self.random.choice(list(self.tree)), self.random.choice(NAMES)
        old, value = self.tree[path], self.random.randbytes(12)
        new = Node(old.data, {**old.xattrs, name: value.hex()})
        self.ask({path: new}, {path: old}, "setx", path, name, payload=value)

    def unsetx(self):
        marked = [(path, name) for path, node in self.tree.items() for name in node.xattrs]
        if marked:
            path, name = self.random.choice(marked)
            old = self.tree[path]
            rest = {other: value for other, value in old.xattrs.items() if other != name}
            self.ask({path: Node(old.data, rest)}, {path: old}, "unsetx", path, name)

    def write_on(self):
        """A file that stays open and is synced as it grows: what was synced must stay."""
        if self.stream is None:
            path = self.new_path()
            if self.ask({path: Node(b"")}, {path: None}, "open", path):
                self.tree.pop(path)
                self.stream = (path, b"")
            return
        path, data = self.stream
        if len(data) > 400_000 or self.random.random() < 0.15:
            self.close_stream()
            return
        more = self.data()
        self.stream = None
        may_be = [{path: Node(data + more, floor=len(data))}]
        if self.ask({path: Node(data + more)}, {path: Node(data)}, "sync", path, payload=more, instead=may_be):
            self.tree.pop(path)
            self.stream = (path, data + more)

    def close_stream(self):
        path, data = self.stream
        self.stream = None
        self.ask({path: Node(data)}, {path: Node(data)}, "close", path)

    def stream_lost(self):
        """The program that had the file open is gone."""
        if self.stream:
            path, data = self.stream
            self.stream = None
            self.doubts.append([{path: Node(data)}])
            self.shy.add(path)

    def read(self):
        if path := self.a_file():
            self.reads += 1
            try:
                if self.hand.ask("read", path) != self.tree[path].data:
                    self.violations.append(f"{path}: wrong bytes were read while things were killed")
            except (Dead, Refused) as error:
                self.tell(error)
                if isinstance(error, Dead):
                    self.stream_lost()
                    time.sleep(PAUSE)


class Check:
    """Compares one writer's folder with what it knows. The writer is at rest, and everything runs."""

    def __init__(self, writer, hand, choose, everything):
        self.writer, self.hand = writer, hand
        self.everything, self.random = everything, choose

    def patient(self, *words):
        """Asks until it is answered: once everything runs, it must be, in time."""
        end = None
        while True:
            try:
                return self.hand.ask(*words)
            except (Dead, Refused) as error:
                end = end or time.monotonic() + stretched(READING)
                if time.monotonic() > end:
                    raise Wrong(f"{' '.join(map(str, words))}: {error}") from None
                time.sleep(0.3)

    def walk(self):
        lines = self.patient("walk", self.writer.root).decode().splitlines()
        return {path: (kind, int(length)) for kind, length, path in (line.split(" ", 2) for line in lines)}

    def see(self, there, path):
        """What is there, with content and attributes; none if nothing is."""
        if path not in there:
            return None
        lines = self.patient("xattrs", path).decode().splitlines()
        xattrs = dict(line.split(" ") if " " in line.strip() else (line.strip(), "") for line in lines)
        return Node(None if there[path][0] == "d" else self.patient("read", path), xattrs)

    def run(self):
        try:
            self.compare()
        except (Wrong, Hung) as error:
            self.writer.violations.append(str(error))

    def compare(self):
        writer = self.writer
        there = self.walk()
        if left := [path for path in writer.shy if there.get(path, "?")[0] == "w"]:
            for path in left:
                self.patient("recover", path)
            there = self.walk()
        for doubt in writer.doubts:
            self.settle(there, doubt)
        writer.doubts, writer.shy = [], set()
        open_path = writer.stream[0] if writer.stream else None
        if open_path and open_path not in there:
            raise Wrong(f"{open_path}: is open, and not there")
        if strange := sorted(set(there) - set(writer.tree) - {open_path}):
            raise Wrong(f"came back, or was never made: {strange[:5]}")
        if lost := sorted(set(writer.tree) - set(there)):
            raise Wrong(f"lost: {lost[:5]} of {len(writer.tree)}")
        for path, node in writer.tree.items():
            kind, length = there[path]
            if (kind == "d") == node.is_file() or (node.is_file() and not node.length_fits(length)):
                raise Wrong(f"{path}: {kind} {length} where {node} was acknowledged")
        paths = set(writer.tree) if self.everything else {path for path in writer.touched if path in writer.tree}
        if not self.everything:
            paths |= set(self.random.sample(sorted(writer.tree), min(3, len(writer.tree))))
        for path in sorted(paths):
            seen = self.see(there, path)
            if not writer.tree[path].fits(seen):
                raise Wrong(f"{path}: {seen} with other bytes or attributes, where {writer.tree[path]} was acknowledged")
        writer.touched = set()

    def settle(self, there, doubt):
        """One of the outcomes must have become true, whole."""
        paths = sorted({path for outcome in doubt for path in outcome})
        seen = {path: self.see(there, path) for path in paths}
        for outcome in doubt:
            if all((seen[path] is None) if outcome.get(path) is None else outcome[path].fits(seen[path]) for path in paths):
                for path in paths:
                    if seen[path] is not None:
                        self.writer.tree[path] = seen[path]
                return
        wanted = [{path: str(node) for path, node in outcome.items()} for outcome in doubt]
        raise Wrong(f"{ {path: str(node) for path, node in seen.items()} } is none of {wanted}")


class Wrong(Exception):
    """Something that was acknowledged is not so."""


class Load:
    """Writers over several hands, which rest together and are checked together."""

    def __init__(self, hands, checker, writers, seed):
        """`writers` of each of the hands; `checker` is a hand that nobody kills."""
        self.checker = checker
        self.random = random.Random(seed)
        self.writers = [Writer(hand, f"/{name}-{number}", self.random.randrange(1 << 60))
                        for name, hand in hands.items() for number in range(writers)]
        for writer in self.writers:
            until_done(lambda writer=writer: checker.ask("mkdir", writer.root))
            writer.start()
        self.pool = concurrent.futures.ThreadPoolExecutor(4)

    def resume(self):
        for writer in self.writers:
            writer.resume()

    def rest(self, seconds=300):
        for writer in self.writers:
            writer.pause()
        for writer in self.writers:
            if not writer.paused(stretched(seconds)):
                writer.violations.append(f"{writer.root}: a request hangs")

    def close_all(self):
        """No file stays open. The writers are at rest."""
        for writer in self.writers:
            if writer.stream:
                writer.close_stream()

    def check(self, everything=False):
        """At rest: what is wrong, in words."""
        checks = [Check(writer, self.checker, self.random, everything) for writer in self.writers]
        list(self.pool.map(lambda check: check.run(), checks))
        return [f"{writer.root}: {words}" for writer in self.writers for words in writer.violations]

    def end(self):
        for writer in self.writers:
            writer.end()
        self.pool.shutdown()

    def told(self):
        """What was done, for a person."""
        done, failed = sum(writer.done for writer in self.writers), sum(writer.failed for writer in self.writers)
        reads = sum(writer.reads for writer in self.writers)
        there = sum(len(writer.tree) for writer in self.writers)
        return f"{done} changes acknowledged, {failed} without a sure answer, {reads} reads, {there} files and folders"

    def slowest(self):
        """The request that took longest of those that were acknowledged."""
        seconds, words = max(writer.slowest for writer in self.writers)
        return f"the slowest answer took {seconds:.1f} s: {words}"

    def refusals(self):
        all_words = {}
        for writer in self.writers:
            for words, count in writer.refused.items():
                all_words[words] = all_words.get(words, 0) + count
        return sorted(all_words.items(), key=lambda item: -item[1])


def until_done(work, seconds=60):
    end = time.monotonic() + stretched(seconds)
    while True:
        try:
            return work()
        except (Dead, Refused):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
