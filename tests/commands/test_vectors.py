"""The conformance vectors: the same bytes every time, complete, met by our chunked forms, and able to fail."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from reference.__main__ import main as command_line
from reference.commands.vectors import check_vectors, main, write_vectors
from reference.conformance.cases import vector_cases
from reference.ops import OPERATORS
from tests.ops.helpers import error, recurrence


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "new"
    write_vectors(path)
    return path


def test_two_runs_write_the_same_bytes(folder, tmp_path):
    write_vectors(tmp_path / "again")
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert all((folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_the_set_is_small_and_covers_every_operator(folder):
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {entry["operator"] for entry in manifest["cases"].values()} == {*OPERATORS, "causal_conv"}
    for name, entry in manifest["cases"].items():
        stored = load_file(folder / f"{name}.safetensors")
        assert {key: list(x.shape) for key, x in stored.items()} == {k: x["shape"] for k, x in entry["tensors"].items()}
        assert all(x.dtype == torch.float32 for x in stored.values())
        assert entry["awkward"] and entry["equation"]
        assert {f"d_{key}" for key in stored if not key.startswith("d_")} <= set(stored)
        assert all(not x.isnan().any() for x in stored.values())


@pytest.mark.parametrize("name, about", vector_cases(), ids=[name for name, _ in vector_cases()])
def test_the_answers_are_those_of_an_independent_recurrence(folder, name, about):
    stored = load_file(folder / f"{name}.safetensors")
    inputs = {key: stored[key] for key in ("q", "k", "v", *OPERATORS[about["operator"]].extras)}
    keywords = about["keywords"]
    if keywords.get("use_qk_l2norm_in_kernel"):
        for key in "qk":
            x = inputs[key].double()
            inputs[key] = x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()
    o, final = recurrence(
        inputs, scale=keywords.get("scale"), initial_state=stored["initial_state"], bounds=keywords.get("cu_seqlens")
    )
    assert error(stored["o"], o) < 1e-6 and error(stored["final_state"], final) < 1e-6


def test_our_chunked_forms_meet_the_tolerances(folder):
    assert check_vectors(folder) == []
    assert main(["--check", str(folder)]) == 0


@pytest.mark.parametrize("key", ["o", "final_state", "d_k"])
def test_a_wrong_answer_is_found_and_named(folder, tmp_path, key, capsys):
    write_vectors(tmp_path / "bad")
    path = tmp_path / "bad" / "kda-odd_length.safetensors"
    stored = load_file(path)
    stored[key].view(-1)[7] += 0.01 * stored[key].abs().max()
    save_file(stored, path)
    assert main(["--check", str(tmp_path / "bad")]) == 1
    assert f"kda-odd_length: {key} is off by" in capsys.readouterr().out


def test_a_folder_with_other_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["--out", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert main(["--out", str(tmp_path / "thesis.txt")]) == 2
    assert main(["--check", str(tmp_path)]) == 2
    assert "no manifest.json" in capsys.readouterr().err
    (tmp_path / "manifest.json").write_text('{"name": "a web page\'s", "format": 1}')
    assert main(["--out", str(tmp_path)]) == 2
    assert "no manifest.json of vectors" in capsys.readouterr().err
    assert "web page" in (tmp_path / "manifest.json").read_text()


def test_an_older_format_is_refused(folder, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 0, "cases": {}}))
    with pytest.raises(ValueError, match="format 0"):
        check_vectors(tmp_path)


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 1}', "another operator", "no file", "cut", "a tensor less"])
def test_damaged_vectors_are_refused_by_name(folder, tmp_path, capsys, damage):
    bad, name = tmp_path / "bad", "kda-odd_length"
    shutil.copytree(folder, bad)
    file, manifest = bad / f"{name}.safetensors", bad / "manifest.json"
    if damage == "another operator":
        manifest.write_text(manifest.read_text().replace('"operator": "kda"', '"operator": "kad"'))
    elif damage == "no file":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif damage == "a tensor less":
        save_file({key: x for key, x in load_file(file).items() if key != "d_o"}, file)
    else:
        manifest.write_text(damage)
    assert main(["--check", str(bad)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("--check: ") and ("manifest.json" in said or name in said)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert command_line(["vectors", "--out", str(tmp_path / "file" / "below")]) == 2
    said = capsys.readouterr().err
    assert "Not a directory" in said and said.count("\n") == 1
