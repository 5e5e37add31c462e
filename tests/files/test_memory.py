import math
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlimagenet_data.files import memory
from mlimagenet_data.files.memory import available_memory, room_for

ROOT = Path(__file__).parents[1]
LARGE = 1 << 28


def test_small_needs_are_not_asked_about(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    with room_for(1 << 27):
        pass


def test_what_needs_more_than_half_of_the_rest_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * LARGE)
    with room_for(LARGE):
        pass
    with pytest.raises(MemoryError, match="268435457 bytes"), room_for(LARGE + 1):
        pass


def test_it_waits_for_other_threads_and_takes_their_place(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * LARGE)
    inside, most, lock, free = [], [], threading.Lock(), threading.Event()

    def take():
        with room_for(LARGE):
            with lock:
                inside.append(1)
                most.append(len(inside))
            free.wait(10)
            with lock:
                inside.pop()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    free.set()
    for thread in threads:
        thread.join(20)
    assert most == [1, 1, 1, 1]


def test_an_error_in_the_block_gives_the_room_back(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * LARGE)
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), room_for(LARGE):
            raise ValueError("inside")


def test_a_forked_process_does_not_wait_for_threads_that_it_lacks():
    with room_for(LARGE):
        child = os.fork()
        if not child:
            os._exit(0 if memory._taken.bytes == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_the_containers_limit_counts_files_in_memory_as_free(tmp_path, monkeypatch):
    files = [tmp_path / name for name in ("max", "current", "stat")]
    for file, text in zip(files, ("1000\n", "900\n", "anon 7\ninactive_file 200\nactive_file 50\n"), strict=True):
        file.write_text(text)
    monkeypatch.setattr(memory, "_GROUPS", (("/none", "/none", "/none"), tuple(map(str, files))))
    assert available_memory() == 350
    files[0].write_text("max\n")
    assert available_memory() > 350


def test_the_process_own_limit_counts():
    code = (
        "import resource; from mlimagenet_data.files.memory import available_memory; "
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30,) * 2); print(available_memory() < 1 << 30)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "True\n"


def test_without_any_information_memory_is_endless(monkeypatch):
    monkeypatch.setattr(memory, "_GROUPS", ())
    monkeypatch.setattr(memory, "_field", lambda *_: math.inf)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert available_memory() == math.inf
