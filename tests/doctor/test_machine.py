"""The probes of this machine, on machines that the tests make up."""

import resource
import sys
import types
from pathlib import Path

import pytest

from hardviews.doctor.probes import cores, gpus, memory, open_files, python, shared_memory
from hardviews.doctor.settings import Doctor


class NVMLError(Exception):
    pass


def nvml(count=2, cuda=13020, fails=False):
    """NVIDIA's library, with GPUs that are not there."""
    made = types.ModuleType("pynvml")

    def init():
        if fails:
            raise NVMLError("Driver/library version mismatch")

    made.NVMLError, made.nvmlInit, made.nvmlShutdown = NVMLError, init, lambda: None
    made.nvmlDeviceGetCount = lambda: count
    made.nvmlDeviceGetHandleByIndex = lambda number: number
    made.nvmlDeviceGetName = lambda handle: b"NVIDIA H200"
    made.nvmlDeviceGetMemoryInfo = lambda handle: types.SimpleNamespace(free=100 * 2**30, total=140 * 2**30)
    made.nvmlSystemGetDriverVersion = lambda: "595.10"
    made.nvmlSystemGetCudaDriverVersion_v2 = lambda: cuda
    return made


def torch(cuda="13.2", there=True, built=("sm_90", "compute_90"), capability=(9, 0)):
    """torch, as far as the probe looks at it."""
    made = types.ModuleType("torch")
    made.__version__, made.version = "2.15.0", types.SimpleNamespace(cuda=cuda)
    made.cuda = types.SimpleNamespace(
        is_available=lambda: there,
        device_count=lambda: 2,
        get_arch_list=lambda: list(built),
        get_device_capability=lambda number: capability,
        get_device_name=lambda number: "a GPU",
        nccl=types.SimpleNamespace(version=lambda: (2, 30, 1)),
    )
    made.distributed = types.SimpleNamespace(is_nccl_available=lambda: True)
    number = types.SimpleNamespace(item=lambda: 1.0)
    made.ones = lambda *_, **__: types.SimpleNamespace(sum=lambda: number)
    return made


@pytest.fixture
def machine(monkeypatch, tmp_path, probe):
    def run(name, nvml_=None, torch_=None, driver=True):
        monkeypatch.setitem(sys.modules, "pynvml", nvml_ or nvml())
        monkeypatch.setitem(sys.modules, "torch", torch_ or torch())
        file = tmp_path / "driver"
        if driver:
            file.write_text("595.10")
        for module in ("gpus", "torch_build"):
            monkeypatch.setattr(f"hardviews.doctor.probes.{module}.DRIVER", file)
        return probe(name)

    return run


def test_gpus(machine):
    found = machine("GPU")
    assert found["GPU"].text == "2: NVIDIA H200, 100 of 140 GiB free; NVIDIA H200, 100 of 140 GiB free"
    assert found["driver"].text == "595.10, for CUDA up to 13.2"


def test_a_driver_that_does_not_answer(machine):
    assert machine("GPU", nvml(fails=True))["GPU"].state == "missing"
    assert machine("torch", nvml(fails=True))["CUDA"].state == "missing"


def test_no_driver(machine):
    assert machine("GPU", nvml(fails=True), driver=False)["GPU"].state == "skipped"
    assert machine("torch", nvml(fails=True), driver=False)["CUDA"].state == "ok"


def test_torch_on_gpus(machine):
    found = machine("torch")
    assert {what: one.state for what, one in found.items()} == {"torch": "ok", "CUDA": "ok", "NCCL": "ok"}
    assert found["NCCL"].text == "2.30.1"


@pytest.mark.parametrize(("cuda", "state"), [(12080, "missing"), (13000, "ok"), (14000, "ok")])
def test_the_driver_against_the_cuda_of_torch(machine, cuda, state):
    assert machine("torch", nvml(cuda=cuda))["CUDA"].state == state


def test_a_build_for_cpus_on_a_machine_with_gpus(machine):
    found = machine("torch", torch_=torch(cuda=None))["torch"]
    assert found.state == "missing" and "without an index of CPU builds" in found.remedy


def test_torch_that_sees_no_gpu(machine):
    assert "CUDA_VISIBLE_DEVICES" in machine("torch", torch_=torch(there=False))["CUDA"].remedy


@pytest.mark.parametrize(
    ("built", "capability", "state"),
    [
        (("sm_80", "sm_90"), (8, 6), "ok"),
        (("sm_80", "sm_90"), (7, 0), "missing"),
        (("sm_90",), (10, 0), "missing"),
        (("sm_90", "compute_90"), (10, 0), "ok"),
        (("sm_90a",), (9, 0), "ok"),
    ],
)
def test_the_gpus_that_a_build_has_code_for(machine, built, capability, state):
    assert machine("torch", torch_=torch(built=built, capability=capability))["CUDA"].state == state


@pytest.mark.parametrize(
    ("required", "version", "admitted"),
    [
        ("<3.13,>=3.11", (3, 11, 0), True),
        ("<3.13,>=3.11", (3, 12, 9), True),
        ("<3.13,>=3.11", (3, 13, 0), False),
        ("<3.13,>=3.11", (3, 10, 9), False),
        (">3.11, !=3.12.1", (3, 12, 1), False),
        ("", (3, 9, 0), True),
    ],
)
def test_versions_of_python(required, version, admitted):
    assert python.admits(required, version) is admitted


@pytest.mark.parametrize(("text", "limit"), [("150000 100000", 1.5), ("max 100000", None), ("", None)])
def test_the_limit_of_a_container(tmp_path, text, limit):
    (tmp_path / "cpu.max").write_text(text)
    assert cores.cpu_limit(tmp_path) == limit


def test_the_limit_of_a_container_of_the_first_version(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.cpu_limit(tmp_path) == 0.5


def test_fewer_cores_than_it_seems(monkeypatch):
    monkeypatch.setattr(cores, "cpu_limit", lambda: 0.5)
    (found,) = cores.look(Doctor())
    assert found.state == "warning" and "--loader.workers 1" in found.remedy


def test_little_memory(monkeypatch):
    assert memory.available(Path("/nowhere")) is None
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    (found,) = memory.look(Doctor())
    assert found.state == "warning" and "1.0 GB available" in found.text


def test_few_open_files(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (256, 4096))
    (found,) = open_files.look(Doctor())
    assert found.state == "warning" and found.remedy == "ulimit -n 4096"


def test_shared_memory_that_is_missing_or_full(monkeypatch):
    monkeypatch.setattr(shared_memory, "PATH", "/nowhere")
    assert next(iter(shared_memory.look(Doctor()))).state == "missing"
    monkeypatch.setattr(shared_memory, "PATH", "/dev/shm")

    class Full:
        def Lock(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(shared_memory, "get_context", lambda kind: Full())
    (found,) = shared_memory.look(Doctor())
    assert found.state == "missing" and "--shm-size" in found.remedy


def test_this_machine(probe):
    for name in ("Python", "cores", "memory", "disks", "/dev/shm", "open files"):
        assert all(one.state in ("ok", "warning") for one in probe(name).values())
    assert gpus.in_words(None) == "unknown"
