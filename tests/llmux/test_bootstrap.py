import re
from collections.abc import Callable
from pathlib import Path

import pytest

from llmux.bootstrap import (
    REQUIREMENTS,
    Stamps,
    Step,
    advice,
    carry_out,
    holds_torch,
    installer_environment,
    llama_settings,
    missing,
    native_parts,
)


def everything(name: str) -> bool:
    return True


def nothing(name: str) -> bool:
    return False


def found(*names: str) -> Callable[[str], str | None]:
    return lambda name: f"/usr/bin/{name}" if name in names else None


class Work:
    """Steps that note when they run; one of them may break off."""

    def __init__(self, folder: Path) -> None:
        self.stamps = Stamps(folder / "stamps")
        self.ran: list[str] = []
        self.breaks_at = ""

    def step(self, name: str, *inputs: str) -> Step:
        def run() -> None:
            if name == self.breaks_at:
                raise KeyboardInterrupt
            self.ran.append(name)

        return Step(name, f"about {name}", inputs, run)

    def carry_out(self, *steps: Step) -> list[str]:
        """The names of the steps that ran."""
        self.ran.clear()
        carry_out(steps, self.stamps)
        return list(self.ran)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


def test_what_is_done_is_not_done_twice(work: Work) -> None:
    steps = work.step("environment", "3.11"), work.step("packages", "numpy==1")

    assert work.carry_out(*steps) == ["environment", "packages"]
    assert work.carry_out(*steps) == []


def test_a_step_with_other_inputs_is_done_again_alone(work: Work) -> None:
    environment, llama = work.step("environment", "3.11"), work.step("llama", "1")
    work.carry_out(environment, work.step("packages", "numpy==1"), llama)

    assert work.carry_out(environment, work.step("packages", "numpy==2"), llama) == ["packages"]


def test_another_python_makes_everything_again(work: Work) -> None:
    packages = work.step("packages", "numpy==1")
    work.carry_out(work.step("environment", "3.11"), packages)

    assert work.carry_out(work.step("environment", "3.12"), packages) == ["environment", "packages"]


def test_after_a_step_was_broken_off_the_environment_is_made_again(work: Work) -> None:
    steps = work.step("environment", "3.11"), work.step("packages", "numpy==1")
    work.breaks_at = "packages"
    with pytest.raises(KeyboardInterrupt):
        work.carry_out(*steps)

    work.breaks_at = ""
    assert work.carry_out(*steps) == ["environment", "packages"]
    assert work.carry_out(*steps) == []


def test_each_step_says_what_it_is_and_how_many_there_are(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    work.carry_out(work.step("environment"), work.step("packages"))

    printed = capsys.readouterr().err
    assert "[1/2] about environment" in printed
    assert "[2/2] about packages" in printed


def test_a_complete_machine_lacks_nothing() -> None:
    assert missing((3, 11), everything, found("g++", "make"), "") == []


def test_all_that_is_missing_is_named_at_once() -> None:
    lacking = missing((3, 10), nothing, found(), "")

    assert len(lacking) == 4
    told = advice(lacking)
    for word in ("Python 3.11", "3.10", "ensurepip", "C++ compiler", "make", "apt-get install", "dnf install"):
        assert word in told


def test_a_compiler_named_in_the_environment_is_the_one_that_counts() -> None:
    assert missing((3, 12), everything, found("my-c++", "make"), "my-c++ -march=native") == []
    assert missing((3, 12), everything, found("g++", "make"), "my-c++") == ["a C++ compiler"]


def test_llama_cpp_is_built_for_cuda_only_with_a_gpu_and_nvcc() -> None:
    cpu = llama_settings(gpu=False, nvcc=True, flags={})

    assert not any("CUDA" in setting for setting in cpu)
    assert llama_settings(gpu=True, nvcc=False, flags={}) == cpu
    assert llama_settings(gpu=True, nvcc=True, flags={}) == [*cpu, "cmake.define.GGML_CUDA=ON"]


def test_llama_cpp_is_built_without_what_does_not_work_and_with_what_the_user_wants() -> None:
    settings = llama_settings(gpu=False, nvcc=False, flags={"CFLAGS": "-O2", "CXXFLAGS": "-g"})

    assert "cmake.define.CMAKE_C_FLAGS=-O2 -U__AVX512FP16__ -U__AMX_INT8__" in settings
    assert "cmake.define.CMAKE_CXX_FLAGS=-g -U__AVX512FP16__ -U__AMX_INT8__" in settings


def test_pips_settings_reach_uv_unless_uv_has_its_own() -> None:
    pip = {"PIP_FIND_LINKS": "/wheels /more", "PIP_INDEX_URL": "https://mirror.example/simple"}

    assert installer_environment(pip) == {
        **pip,
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
    }
    assert installer_environment({**pip, "UV_DEFAULT_INDEX": "x"})["UV_DEFAULT_INDEX"] == "x"
    assert installer_environment({"PATH": "/bin"}) == {"PATH": "/bin"}


def test_a_build_of_torch_in_the_users_folder_is_seen(tmp_path: Path) -> None:
    assert not holds_torch([])
    assert not holds_torch([str(tmp_path), "https://mirror.example/wheels"])

    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    assert holds_torch([str(tmp_path)])


@pytest.mark.parametrize("name", ["uv", "build", "torch", "cuda", "llama", "runtime", "dev"])
def test_locks_pin_every_package_by_hash_and_name_no_index(name: str) -> None:
    lock = (REQUIREMENTS / f"{name}.txt").read_text()
    packages = re.split(r"^(?=[a-z])", lock, flags=re.MULTILINE)[1:]

    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9._-]+==[^ ]+ ", package)
        assert "--hash=sha256:" in package
    assert "://" not in lock
    assert "index" not in re.sub(r"^ +# via.*", "", lock, flags=re.MULTILINE)


def test_no_lock_but_that_of_torch_brings_cuda() -> None:
    assert "nvidia-cublas" in (REQUIREMENTS / "cuda.txt").read_text()
    assert "nvidia-cublas" not in (REQUIREMENTS / "runtime.txt").read_text()


def test_the_native_parts_of_torchaudio_are_found_and_nothing_else(tmp_path: Path) -> None:
    library = tmp_path / "lib/python3.11/site-packages/torchaudio/lib"
    library.mkdir(parents=True)
    names = ("_torchaudio.abi3.so", "libtorchaudio.abi3.so", "torchaudio_prefixctc.abi3.so", "__init__.py")
    for name in names:
        (library / name).touch()

    assert [path.name for path in native_parts(tmp_path)] == sorted(names[:3])
