"""Memory for spatial consistency."""

import multiprocessing

import numpy as np
import pytest
import torch

from mlimagenet_data.errors import HeatmapError
from mlimagenet_data.losses.heatmaps import Heatmaps


def test_written_rows_read_back_after_reopening(tmp_path):
    memory = Heatmaps(tmp_path / "run" / "heat.npy", 100_000, classes=2, size=(3, 4))
    rows = torch.tensor([7, 99_999])
    classes, heat = memory.read(rows)
    assert (classes == -1).all()
    assert heat.isnan().all()
    written = torch.rand(2, 2, 3, 4)
    written[1, 1] = torch.nan
    memory.write(rows, torch.tensor([[5, 999], [0, -1]]), written)
    other = Heatmaps(tmp_path / "run" / "heat.npy", 100_000, classes=2, size=(3, 4))
    classes, heat = other.read(rows)
    assert classes.tolist() == [[5, 999], [0, -1]]
    torch.testing.assert_close(heat, written.half().float(), equal_nan=True)
    assert (other.read(torch.tensor([8]))[0] == -1).all()
    memory.copy_to(tmp_path / "copy.npy")
    torch.testing.assert_close(Heatmaps(tmp_path / "copy.npy", 100_000, classes=2, size=(3, 4)).read(rows)[0], classes)
    bytes_of_a_row = 2 * (2 * 3 * 4 + 2)
    assert (tmp_path / "copy.npy").stat().st_size == pytest.approx(100_000 * bytes_of_a_row, abs=1000)


def test_damaged_files_and_files_of_another_run_are_refused(tmp_path):
    path = tmp_path / "heat.npy"
    Heatmaps(path, 10)
    with pytest.raises(HeatmapError, match="another run"):
        Heatmaps(path, 11)
    with pytest.raises(HeatmapError, match="another run"):
        Heatmaps(path, 10, size=(4, 4))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(HeatmapError, match=r"heat\.npy.*delete"):
        Heatmaps(path, 10)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(HeatmapError, match="delete"):
        Heatmaps(path, 10)


def test_rows_and_shapes_are_checked(tmp_path):
    memory = Heatmaps(tmp_path / "heat.npy", 10)
    with pytest.raises(IndexError, match="asked for rows -1 to 10"):
        memory.read(torch.tensor([-1, 10]))
    with pytest.raises(ValueError, match="8 classes"):
        memory.write(torch.tensor([0]), torch.zeros(1, 2).long(), torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="positive"):
        Heatmaps(tmp_path / "other.npy", 0)


def test_processes_share_a_file_by_writing_separate_rows(tmp_path):
    path = tmp_path / "heat.npy"
    memory = Heatmaps(path, 64, classes=1, size=(1, 1))
    context = multiprocessing.get_context("forkserver")
    workers = [context.Process(target=fill_rows, args=(path, first)) for first in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    classes, heat = memory.read(torch.arange(64))
    assert classes[:, 0].tolist() == list(range(64))
    torch.testing.assert_close(heat.flatten(), torch.arange(64) / 64)


def fill_rows(path, first):
    memory = Heatmaps(path, 64, classes=1, size=(1, 1))
    for row in range(first, 64, 2):
        memory.write(torch.tensor([row]), torch.tensor([[row]]), torch.full((1, 1, 1, 1), row / 64))
