"""The doctor says in words what is right, what is wrong, and which command mends it."""

import ast
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from reference import __main__ as command_line
from reference.commands import doctor
from reference.commands.doctor import Finding
from reference.layers.projection import product_library


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1
    return findings[0]


def fail(error: Exception):
    def load(name: str):
        raise error

    return load


LINUX = ("CPython", "Linux", "x86_64")


def test_an_old_python_gets_one_sentence_on_every_command(monkeypatch):
    monkeypatch.setattr(command_line.sys, "version_info", (3, 9, 2, "final", 0))
    for command in command_line.COMMANDS:
        with pytest.raises(SystemExit, match=r"^Python 3\.11 or newer is needed; this is .*make book PYTHON="):
            command_line.main([command])


@pytest.mark.parametrize("name", ["__main__.py", "__init__.py"])
def test_an_old_python_can_read_the_files_that_hold_the_sentence(name):
    source = (doctor.ROOT / "reference" / name).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
    assert "from __future__" not in source


@pytest.mark.parametrize("python", [(3, 11, 7), (3, 13, 0)])
def test_a_python_whose_outputs_were_compared_is_fine(python):
    finding = only(doctor.check_python(python, LINUX))
    assert finding.level == "ok" and f"Python {'.'.join(map(str, python))} (Linux, x86_64)" in finding.what


@pytest.mark.parametrize(
    ("python", "machine", "named"),
    [
        ((4, 0, 0), LINUX, "Python 4.0.0 (Linux, x86_64)"),
        ((3, 12, 1), ("CPython", "Darwin", "arm64"), "Python 3.12.1 (Darwin, arm64)"),
        ((3, 12, 1), ("CPython", "Windows", "AMD64"), "Python 3.12.1 (Windows, x86_64)"),
        ((3, 11, 4), ("PyPy", "Linux", "x86_64"), "PyPy 3.11.4 (Linux, x86_64)"),
    ],
)
def test_where_outputs_were_not_compared_the_doctor_says_so(python, machine, named):
    finding = only(doctor.check_python(python, machine))
    assert finding.level == "note" and named.lower() in finding.what.lower().replace("amd64", "x86_64")
    assert "Linux, x86-64 only" in finding.what and "make.py test" in finding.todo


def test_pins_are_read_without_comments_options_and_ranges(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# numpy==1.0\n-c constraints.txt\n\nnumpy==2.4.6\ntorch == 2.13.0   # a CPU build\nscipy>=1\n")
    assert doctor.read_pins(path) == {"numpy": "2.4.6", "torch": "2.13.0"}


def test_the_books_own_requirements_are_read():
    assert {"numpy", "torch", "jupyter", "pytest"} <= doctor.read_pins().keys()


def test_a_missing_package_is_a_problem_with_the_command_that_installs_it():
    finding = only(doctor.check_packages({"numpy": "2.4.6"}, installed=lambda name: None))
    assert finding.level == "problem" and finding.what == "numpy is not installed."
    assert finding.todo == f"{sys.executable} -m pip install numpy==2.4.6"


def test_many_missing_packages_are_one_problem_mended_by_one_command():
    finding = only(doctor.check_packages(dict.fromkeys("abcd", "1.0"), installed=lambda name: None))
    assert finding.what == "4 packages are not installed: a, b, c, d." and finding.todo.endswith("make.py setup")


def test_a_differing_version_is_a_note_that_names_both_versions():
    finding = only(doctor.check_packages({"numpy": "2.4.6"}, installed=lambda name: "1.26.0"))
    assert finding.level == "note" and "1.26.0" in finding.what and "2.4.6" in finding.what
    assert finding.todo.endswith("pip install numpy==2.4.6")


def test_a_local_build_label_does_not_count_as_a_difference():
    finding = only(doctor.check_packages({"torch": "2.13.0"}, installed=lambda name: "2.13.0+cpu"))
    assert finding.level == "ok" and "1 of 1" in finding.what


def test_installed_versions_come_from_the_environment():
    assert doctor.installed_version("pytest") == pytest.__version__
    assert doctor.installed_version("no-such-package-as-this") is None


def test_a_missing_requirements_file_is_explained(tmp_path):
    installed = only(doctor.check_requirements(tmp_path / "requirements.txt"))
    assert installed.level == "note" and "installed package" in installed.what
    (tmp_path / "make.py").touch()
    broken = only(doctor.check_requirements(tmp_path / "requirements.txt"))
    assert broken.level == "problem" and "complete copy" in broken.todo


def test_the_books_environment_is_recognized_and_any_other_named(tmp_path):
    own = tmp_path / ".venv"
    assert only(doctor.check_environment(str(own), "/usr", tmp_path)).level == "ok"
    installed = only(doctor.check_environment("/usr", "/usr", tmp_path))
    assert "complete copy of the book" in installed.todo  # no make.py: a wheel
    (tmp_path / "make.py").touch()
    system = only(doctor.check_environment("/usr", "/usr", tmp_path))
    assert system.level == "note" and "system's Python (/usr)" in system.what and "make.py book, then" in system.todo
    (own / "bin").mkdir(parents=True)
    (own / "Scripts").mkdir()
    for python in (own / "bin" / "python", own / "Scripts" / "python.exe"):
        python.touch()
    other = only(doctor.check_environment("/home/me/env", "/usr", tmp_path))
    assert "another environment (/home/me/env)" in other.what and "make.py" not in other.todo
    assert "activate, or " in other.todo and str(own) in other.todo


def test_a_foreign_python_is_told_to_use_the_books_and_nothing_else(monkeypatch):
    note, problem = Finding("note", "Not the book's.", "use .venv"), Finding("problem", "No numpy.", "pip")
    monkeypatch.setattr(doctor, "check_environment", lambda: [note])
    monkeypatch.setattr(doctor, "check_requirements", lambda: [problem])
    assert doctor.examine() == [*doctor.check_python(), Finding("problem", "Not the book's.", "use .venv")]
    monkeypatch.setattr(doctor, "check_requirements", lambda: [problem._replace(level="note")])
    assert doctor.examine() == [*doctor.check_python(), note]
    monkeypatch.setattr(doctor, "check_requirements", lambda: [Finding("ok", "all packages")])
    assert len(doctor.examine()) == 8  # all pins at hand: as good as .venv
    monkeypatch.setattr(doctor, "check_environment", lambda: [Finding("ok", "The book's own.")])
    monkeypatch.setattr(doctor, "check_requirements", lambda: [problem])
    assert problem in doctor.examine() and len(doctor.examine()) == 8


@pytest.mark.parametrize(
    ("load", "before", "after"), [(2.5, None, "passive"), (0.3, None, None), (9.0, "active", "active")]
)
def test_where_cores_are_busy_a_command_lets_waiting_threads_sleep(monkeypatch, capsys, load, before, after):
    monkeypatch.setattr(doctor, "wanted_cores", lambda: load)
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2)
    monkeypatch.setenv("OMP_WAIT_POLICY", "so that it is put back")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    else:
        monkeypatch.setenv("OMP_WAIT_POLICY", before)
    assert command_line.main(["bench"]) == 2  # without a name it only lists what there is
    assert os.environ.get("OMP_WAIT_POLICY") == after


def test_cores_and_memory_are_judged():
    assert only(doctor.check_cores(1)).level == "note"
    assert only(doctor.check_cores(8, 7.0)).what.startswith("8 cores. A chapter")
    busy = only(doctor.check_cores(2, 1.6))
    assert busy.level == "note" and "keep 2 busy" in busy.what and "set_num_threads(1)" in busy.todo
    assert doctor.usable_cores() >= 1
    assert only(doctor.check_memory((16.0, 8.0))).level == "ok"
    assert "less than the 4 GiB" in only(doctor.check_memory((2.0, 1.0))).what
    assert "close other programs" in only(doctor.check_memory((16.0, 0.5))).todo
    total, free = doctor.memory_gib()
    assert 0 < free <= total


def test_memory_is_found_without_psutil_or_called_unknown(monkeypatch):
    monkeypatch.setattr(doctor.importlib, "import_module", fail(ImportError()))
    if hasattr(doctor.os, "sysconf"):
        assert doctor.memory_gib()[0] > 0
        monkeypatch.setattr(doctor.os, "sysconf", fail(ValueError()))
    assert doctor.memory_gib() is None
    assert "unknown" in only(doctor.check_memory()).what


def fake_torch(gpus: list[str]) -> SimpleNamespace:
    return SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: bool(gpus), get_device_name=lambda i: gpus[i]))


def test_a_gpu_is_named_and_its_absence_is_fine():
    assert "H200" in doctor.check_gpu(gpu_where(""))[0].what
    assert only(doctor.check_gpu(lambda name: fake_torch([]))).level == "ok"


def gpu_where(lack: str):
    """A loader of a torch with a GPU, and of a choice that lacks something for the kernels."""
    choice = SimpleNamespace(machine_lacks=lambda: lack)
    return lambda name: fake_torch(["NVIDIA H200"]) if name == "torch" else choice


def test_on_a_gpu_it_says_whether_the_kernels_run_and_why_not():
    assert [finding.level for finding in doctor.check_gpu(gpu_where(""))] == ["ok", "ok"]
    slow = doctor.check_gpu(gpu_where("Triton can't be imported (no module)"))[1]
    assert slow.level == "note" and "slower PyTorch form on it: Triton can't" in slow.what
    assert ".[kernels]" in slow.todo
    assert doctor.check_gpu(gpu_where("REFERENCE_KERNELS=off turns them off"))[1].todo == ""


def test_without_torch_the_gpu_question_is_left_open():
    finding = only(doctor.check_gpu(fail(ModuleNotFoundError("No module named 'torch'", name="torch"))))
    assert finding.level == "note" and "without torch" in finding.what


@pytest.mark.parametrize("error", [OSError("libc10.so: no such file"), ModuleNotFoundError("x", name="sympy")])
def test_a_torch_that_does_not_load_is_a_problem(error):
    finding = only(doctor.check_gpu(fail(error)))
    assert finding.level == "problem" and str(error) in finding.what and "--force-reinstall torch==" in finding.todo


def products_where(chosen: str, **rates: float):
    """A loader of a projection module whose libraries have these rates."""
    found = SimpleNamespace(product_library=lambda: chosen, library_rates=lambda: rates, LIBRARY_SWITCH="SWITCH")
    return lambda name: found


def test_the_library_of_products_is_measured_and_the_switch_named_where_the_other_is_faster():
    assert only(doctor.check_products()).level in ("ok", "note")
    fine = only(doctor.check_products(products_where("onednn", onednn=100.0, torch=110.0)))
    assert fine == Finding("ok", "Matrix products are oneDNN: 100 GFLOP/s, PyTorch's own 110.")
    slow = only(doctor.check_products(products_where("onednn", onednn=100.0, torch=125.0)))
    assert slow.level == "note" and slow.todo.startswith("set SWITCH=torch in the environment")
    assert only(doctor.check_products(products_where("torch", torch=50.0))).what.endswith("own: 50 GFLOP/s.")
    assert doctor.check_products(fail(ImportError("no torch"))) == []


def test_a_wrong_word_in_the_switch_is_a_problem(monkeypatch):
    monkeypatch.setenv("REFERENCE_PRODUCTS", "blas")
    product_library.cache_clear()
    wrong = only(doctor.check_products())
    assert wrong.level == "problem" and "got 'blas'" in wrong.what


def kernels(argv0: str) -> SimpleNamespace:
    spec = SimpleNamespace(argv=[argv0, "-m", "ipykernel_launcher"])
    return SimpleNamespace(KernelSpecManager=lambda: SimpleNamespace(get_kernel_spec=lambda name: spec))


def test_the_kernel_must_be_there_and_start_this_python():
    assert only(doctor.check_kernel(lambda name: kernels(sys.executable))).level == "ok"
    assert only(doctor.check_kernel(lambda name: kernels("python"))).level == "ok"
    assert "another Python" in only(doctor.check_kernel(lambda name: kernels("/opt/old/bin/python"))).what
    assert "pip install jupyter" in only(doctor.check_kernel(fail(ImportError()))).todo
    assert "no kernel named python3" in only(doctor.check_kernel(fail(KeyError()))).what


def test_the_last_line_is_a_verdict():
    ok, note, problem = (Finding(level, "something") for level in ("ok", "note", "problem"))
    assert doctor.verdict_line([ok]) == "Ready: everything is as the book expects it."
    assert doctor.verdict_line([ok, note]) == "Ready, with 1 note that you may ignore."
    assert doctor.verdict_line([note, problem]) == "Not ready: 1 problem. Do what the arrow says, then ask again."
    assert doctor.verdict_line([problem] * 2) == "Not ready: 2 problems. Do what the arrows say, then ask again."


@pytest.mark.parametrize(("levels", "status"), [(["ok", "note"], 0), (["ok", "problem"], 1)])
def test_the_exit_status_is_1_only_for_problems(levels, status, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding(level, "A thing.", "do it") for level in levels])
    assert command_line.main(["doctor"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["ok       A thing.", "         -> do it"]
    assert command_line.main(["doctor", "--json"]) == status
    report = json.loads(capsys.readouterr().out)
    assert report["ready"] is (status == 0) and [f["level"] for f in report["findings"]] == levels


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--help"]])
def test_help_is_there_for_the_whole_and_for_each_command(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        command_line.main(arguments)
    assert end.value.code == 0 and "doctor" in capsys.readouterr().out


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        command_line.main(["docter"])
    assert end.value.code == 2 and "doctor" in capsys.readouterr().err


def test_the_doctor_starts_without_any_package():
    command = [sys.executable, "-S", "-m", "reference", "doctor"]  # -S hides everything that pip installed
    done = subprocess.run(command, cwd=doctor.ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == ""
    mend = r"problem  .*\n         -> .*\.venv.*|.*packages are not installed: numpy, torch, .*"
    assert re.search(mend, done.stdout) and "Not ready" in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", ["doctor", "--help"])
def test_a_reader_who_leaves_gets_no_traceback(command, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    words, environment = [sys.executable, "-S", "-m", "reference", command], {"PYTHONUNBUFFERED": unbuffered}
    try:
        done = subprocess.run(
            words, cwd=doctor.ROOT, env=os.environ | environment, stdout=writer, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writer)
    # argparse keeps quiet about help that it could not print
    assert done.stderr == "" and done.returncode == (0 if (command, unbuffered) == ("--help", "1") else 141)


def test_a_broken_pipe_elsewhere_is_not_hidden(monkeypatch):
    def train(argv: list[str]) -> int:
        raise BrokenPipeError("between two processes")

    monkeypatch.setattr(command_line, "main", train)
    with pytest.raises(BrokenPipeError, match="between two processes"):
        command_line.run_in_shell(["train"])
