"""Files that last: reload without the dense network, in another process, from a stored older format."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.export_structures import STRUCTURES
from safetensors.torch import load_file
from torch import nn

from benchmarks.problems.keeps import random_keep
from dtp_edge.archive import folder as archive
from dtp_edge.archive import load_pruned, save_pruned
from dtp_edge.archive.recurrent import recurrent_fault
from dtp_edge.archive.storable import allowed
from dtp_edge.errors import InputError
from dtp_edge.graph import trace_network
from dtp_edge.graph.leaves import leaves
from dtp_edge.proof.equality import randomise_tensors
from dtp_edge.surgery import compact
from dtp_edge.surgery.difference import relative_error

FIXTURE = Path(__file__).parent / "fixtures" / "pruned_v1"


def _saved(name, folder):
    torch.manual_seed(0)
    model, shape = STRUCTURES[name]()
    network = trace_network(model.eval(), (torch.randn(*shape),))
    randomise_tensors(network)
    keep = random_keep(network, 0.5, 1)
    result = compact(network, keep)
    save_pruned(folder, result, network, keep, {"seed": 1})
    return network, keep, result


@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_round_trip(name, tmp_path):
    network, _, result = _saved(name, tmp_path)
    loaded = load_pruned(tmp_path)
    x = network.example_inputs
    with torch.no_grad():
        wanted = result.graph_module.eval()(*x)
        found = loaded(*x)
    assert type(found) is type(wanted)
    assert relative_error(leaves(wanted), leaves(found)) == 0.0


def test_fresh_process_gives_identical_outputs_and_needs_no_definition(tmp_path):
    network, _, result = _saved("bias_table", tmp_path)
    torch.save(
        {"x": network.example_inputs[0], "y": result.graph_module.eval()(*network.example_inputs)},
        tmp_path / "io.pt",
    )
    program = (
        "import sys, torch, dtp_edge\n"
        "m = dtp_edge.load_pruned(sys.argv[1]); io = torch.load(sys.argv[1] + '/io.pt', weights_only=True)\n"
        "assert torch.equal(m(io['x']), io['y'])\n"
        "assert 'structures' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_stored_fixture_of_format_1_still_loads():
    loaded = load_pruned(FIXTURE)
    io = load_file(FIXTURE / "io.safetensors")
    with torch.no_grad():
        assert torch.allclose(loaded(io["x"]), io["y"], atol=1e-5)
    loaded.train()
    loaded(io["x"]).sum().backward()
    assert all(q.grad is not None for q in loaded.parameters())


def test_entries_that_a_later_minor_version_adds_are_passed_over(tmp_path):
    def add(document):
        document["made_by"] = "dtp_edge 9.9"
        document["graph"][0]["source_line"] = 12
        next(iter(document["tensors"].values()))["sparsity"] = 0.5

    assert list(load_pruned(_damaged(tmp_path, add)).parameters())


def test_others_may_read_what_the_umask_lets_them_read(tmp_path):
    before = os.umask(0o022)
    try:
        _saved("chain", tmp_path)
    finally:
        os.umask(before)
    modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()}
    assert modes == {"model.safetensors": 0o644, "widths.json": 0o644}


def test_same_network_same_bytes(tmp_path):
    for name in ("a", "b"):
        _saved("residual", tmp_path / name)
    for file in ("model.safetensors", "widths.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_kept_repeats_the_surgery_by_hand(tmp_path):
    network, _, result = _saved("residual", tmp_path)
    document = json.loads((tmp_path / "widths.json").read_text())
    weights = load_file(tmp_path / "model.safetensors")
    dense = network.module.state_dict()
    for name, tensor in weights.items():
        value = dense[name]
        for dim, index in document["kept"].get(name, {}).items():
            value = value.index_select(int(dim), torch.tensor(index))
        assert torch.equal(value, tensor)
    assert document["widths"] == {
        g.name: list(network.widths(_keep(network))[g.name]) for g in network.groups
    }
    assert result.kept


def _keep(network):
    return random_keep(network, 0.5, 1)


def test_shared_tensors_are_stored_once_and_stay_shared(tmp_path):
    _saved("tied_linear", tmp_path)
    loaded = load_pruned(tmp_path)
    assert len(list(loaded.parameters())) == 1


def _damaged(tmp_path, change):
    _saved("residual", tmp_path)
    path = tmp_path / "widths.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return tmp_path


def _call(document):
    return next(n for n in document["graph"] if n["op"] == "call_function")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: _call(d).update(target="os.system"), "not an operator"),
        (lambda d: _call(d).update(target="aten.from_file.default"), "not an operator"),
        (lambda d: _call(d).update(target="aten.set_.source_Tensor"), "not an operator"),
        (lambda d: _call(d).update(target="size.__import__"), "not an operator"),
        (lambda d: _call(d).update(name="x; import os"), "node name"),
        (lambda d: _call(d).update(args=[{"node": "nobody"}]), "bad 'node'"),
        (lambda d: _call(d).update(args=[{"pickle": "gASV"}]), "bad 'pickle'"),
        (lambda d: _call(d).update(op="call_module"), "not a pruned network"),
        (lambda d: d["graph"].pop(), "must end in one output"),
        (lambda d: d.update(version=99), "version 99"),
        (lambda d: d.pop("tensors"), "tensors"),
        (lambda d: d.pop("weights_sha256"), "weights_sha256"),
        (lambda d: d.update(weights_sha256="0" * 64), "not the file that was written"),
        (lambda d: d["tensors"].popitem(), "not stored"),
    ],
)
def test_damage_is_refused_with_a_sentence(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_pruned(_damaged(tmp_path, change))


def _insert(target, args, kwargs=None):
    """Put a call before the output of a stored graph, reading its first value."""

    def change(document):
        first = document["graph"][0]["name"]
        args_ = json.loads(json.dumps(args).replace('"X"', json.dumps({"node": first})))
        entry = {
            "name": "added",
            "op": "call_function",
            "target": target,
            "args": args_,
            "kwargs": kwargs or {},
        }
        document["graph"].insert(1, entry)

    return change


HOSTILE = {
    "gradient": _insert("aten.tanh_backward.default", ["X", "X"]),
    "segments": _insert("aten.segment_reduce.default", ["X", "sum"], {"unsafe": True}),
    "sparse": _insert("aten.to_sparse.default", ["X"]),
    "packed": _insert("aten.fbgemm_pack_gemm_matrix_fp16.default", ["X"]),
    "unchecked index": _insert("aten._unsafe_index.Tensor", ["X", ["X"]]),
    "written out": _insert("aten.add.out", ["X", "X"], {"out": {"node": "added"}}),
    "raw storage": _insert("aten.as_strided.default", ["X", [9], [1], 10**6]),
    "too few arguments": _insert("aten.conv2d.default", ["X"]),
    "too many arguments": _insert("aten.relu.default", ["X", "X"]),
    "unknown argument": _insert("aten.relu.default", ["X"], {"slope": 2}),
    "text for a number": _insert("aten.sum.dim_IntList", ["X", ["a"]]),
    "number beyond 64 bits": _insert("aten.add.Tensor", ["X", 2**63]),
    "huge list": _insert("aten.reshape.default", ["X", [1] * 100]),
    "huge tensor": _insert("aten.full.default", [[10**6, 10**6], 0.0]),
    "huge cut": _insert("aten.unbind.int", ["X", 99]),
    "shapes that do not fit": _insert("aten.mm.default", ["X", "X"]),
    "lists at their word": _insert(
        "aten.lstm.input", ["X", ["X", "X"], ["X", "X", "X", "X"], True, 1, 0.0, False, False, False]
    ),
    "a remainder that ends the process": _insert("aten.remainder.int", [5, 0]),
    "endless power": _insert("size.pow", [10**9, 10**9]),
    "no input for a placeholder": lambda d: d.update(inputs=[]),
    "another kind of input": lambda d: d["inputs"][0].update(dtype="qint8"),
    "input without an end": lambda d: d["inputs"][0].update(shape=[2**31, 2**31, 2**31]),
    "a name of the module": lambda d: _rename_tensor(d, "training"),
    "the graph's own name": lambda d: _rename_tensor(d, "graph"),
    "a method's name": lambda d: _rename_tensor(d, "forward"),
    "code in a name": lambda d: _rename_tensor(d, 'x"), __import__("os").abort(), ("'),
    "a new line in a name": lambda d: _rename_tensor(d, "x\n    import os"),
    "a letter that Python reads as another": lambda d: _rename_tensor(d, "ﬁ"),
    "a name without an end": lambda d: _rename_tensor(d, "a." * 30_000 + "b"),
    "a node called self": lambda d: d["graph"][0].update(name="self"),
}


def _rename_tensor(document, name):
    old = next(iter(document["tensors"]))
    document["tensors"][name] = document["tensors"].pop(old)
    for node in document["graph"]:
        if node["target"] == old:
            node["target"] = name


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_graph_is_refused_on_loading(tmp_path, case):
    with pytest.raises(InputError) as caught:
        load_pruned(_damaged(tmp_path, HOSTILE[case]))
    assert caught.value.exit_code == 2
    assert str(tmp_path) in str(caught.value)


def test_recurrent_lists_are_counted():
    x = torch.zeros(3, 2, 4)
    one = nn.LSTM(4, 5, num_layers=2, bidirectional=True, proj_size=3)
    names = [a.name for a in torch.ops.aten.lstm.input._schema.arguments]
    states = [torch.zeros(4, 2, 3), torch.zeros(4, 2, 5)]
    good = [x, states, [p.detach() for p in one.parameters()], True, 2, 0.0, False, True, False]
    assert recurrent_fault("lstm", dict(zip(names, good, strict=True))) is None
    for place, value in (
        (2, good[2][:-1]),
        (1, states[:1]),
        (4, 3),
        (7, False),
        (0, x[0]),
        (1, states[::-1]),
    ):
        bad = [*good[:place], value, *good[place + 1 :]]
        assert recurrent_fault("lstm", dict(zip(names, bad, strict=True))) is not None


@pytest.mark.parametrize("name", ["conv1/7x7_s2", "conv 1", "卷积1", "conv:1", "a'b", "x" * 300, "-", "0"])
def test_any_name_of_a_module_loads_back(tmp_path, name):
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module(name, nn.Conv2d(3, 8, 3))
    model.add_module("act", nn.ReLU())
    model.add_module("last", nn.Conv2d(8, 4, 3))
    network = trace_network(model.eval(), (torch.randn(1, 3, 8, 8),))
    keep = random_keep(network, 0.5, 1)
    result = compact(network, keep)
    save_pruned(tmp_path, result, network, keep)
    loaded = load_pruned(tmp_path)
    x = torch.randn(2, 3, 8, 8)
    assert f"{name}.weight" in loaded.state_dict()
    with torch.no_grad():
        assert torch.equal(loaded(x), result.graph_module.eval()(x))


def test_pipes_and_sparse_giants_are_refused_at_once(tmp_path):
    _saved("chain", tmp_path)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(50 * 10**9)  # takes no disk
    with pytest.raises(InputError, match="has 50000000000 bytes"):
        load_pruned(tmp_path)
    (tmp_path / "widths.json").unlink()
    os.mkfifo(tmp_path / "widths.json")
    with pytest.raises(InputError, match="a pipe or a device"):
        load_pruned(tmp_path)


def test_a_whole_number_may_be_written_with_a_point(tmp_path):
    def change(document):
        document["inputs"][0]["shape"] = [float(size) for size in document["inputs"][0]["shape"]]

    assert list(load_pruned(_damaged(tmp_path, change)).parameters())


def test_missing_and_truncated_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_pruned(tmp_path)
    _saved("chain", tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(InputError, match="safetensors"):
        load_pruned(tmp_path)


def test_weights_that_changed_are_refused_unless_asked_for(tmp_path):
    _, _, result = _saved("residual", tmp_path)
    weights = tmp_path / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-2] ^= 1  # one bit of the last weight: still a good safetensors file
    weights.write_bytes(raw)
    with pytest.raises(InputError, match="not the file that was written"):
        load_pruned(tmp_path)
    loaded = load_pruned(tmp_path, any_weights=True)
    kept = dict(result.graph_module.state_dict())
    changed = [n for n, v in loaded.state_dict().items() if not torch.equal(v, kept[n])]
    assert len(changed) == 1


def test_format_1_differs_from_now_in_its_version_and_has_no_checksum():
    document = json.loads((FIXTURE / "widths.json").read_text())
    assert document["version"] == 1 < archive.VERSION
    assert "weights_sha256" not in document


def test_whitelist_lets_nothing_through_that_touches_files_or_storage():
    aten = torch.ops.aten
    for good in (
        aten.conv2d.default,
        aten.einsum.default,
        aten.scaled_dot_product_attention.default,
        aten.lstm.input,
        aten.relu_.default,
    ):
        assert allowed(good)
    refused = [
        aten.set_.source_Storage,
        aten.resize_.default,
        aten.lstm.data,
        aten.relu.out,
        aten.as_strided.default,
    ]
    refused += [getattr(aten, n).default for n in ("from_file",) if hasattr(aten, n)]
    assert not any(allowed(o) for o in refused)
