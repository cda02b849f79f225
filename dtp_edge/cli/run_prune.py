"""From what was typed to one call of the pipeline, or to a plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dtp_edge.cli.console import print_json, say
from dtp_edge.cli.plan_text import show_plans
from dtp_edge.errors import BudgetError, InputError
from dtp_edge.run.result import PruneResult


def execute(request: dict[str, Any], progress: Any) -> PruneResult:
    """Load, prune, write: the request of `cli.prune` as one pipeline call."""
    import os

    import torch

    from dtp_edge.cli.format_options import asked_formats
    from dtp_edge.run.options import Listener
    from dtp_edge.run.pipeline import prune
    from dtp_edge.transport import Budget

    formats = asked_formats(request)
    if request["on"]:
        from dtp_edge.measure import board_hello
        from dtp_edge.remote import remote_of

        progress.stage(f"asking {request['on']}")
        board_hello(remote_of(request["on"]))  # now, not after hours of training
    torch.set_num_threads(min(torch.get_num_threads(), os.cpu_count() or 1))
    module, inputs, options = asked_for(request, budget_of(request, Budget))
    given = {"device": request["device"], "out": Path(request["out"]), "formats": formats}
    options = dataclasses.replace(options, **given)
    if options.objective is not None:
        progress.headline = options.objective.headline
    return prune(module, inputs, options, Listener(progress, progress.stage))


def asked_for(request: dict[str, Any], budget: Any) -> tuple[Any, Any, Any]:
    """Return the network, its inputs, and the `Options` that were typed, but for device and folder."""
    import torch

    from dtp_edge.cli.format_options import int8_options
    from dtp_edge.run.options import Options, Origin, aim_of

    torch.manual_seed(request["seed"])
    data = _data(request)
    calibrate = data if request["calibrate"] is not None else None
    module, inputs, info = _network(request, data)
    untrained = not info.trained
    origin = Origin(
        command=request["command"],
        model_name=request["model"],
        weights_from=info.weights or info.source,
        warnings=tuple(_warnings(request, inputs, info, untrained=untrained)),
    )
    learns = data if calibrate is None else None
    options = Options(
        budget=budget,
        data=learns,
        objective=aim_of(request["objective"], learns),
        calibrate=calibrate,
        images=request["images"],
        recipe=_recipe(request, untrained),
        epochs=request["epochs"],
        seed=request["seed"],
        exclude=tuple(request["exclude"]),
        depth=request["depth"],
        part=request["part"],
        resume=request["resume"],
        force=request["force"],
        **int8_options(request),
        dynamic_batch=request["dynamic_batch"],
        opset=request["opset"],
        tensorboard=request["tensorboard"],
        on=request["on"],
        origin=origin,
    )
    return module, inputs, options


def _warnings(request: dict[str, Any], inputs: Any, info: Any, *, untrained: bool) -> Iterator[str]:
    if info.assumed_input:
        shape = list(inputs[0].shape)
        yield (
            f"{request['model']} gives no example input; {shape} is assumed. Return (network, input), or "
            "give --input-shape."
        )
    if untrained and not request["demo"]:
        yield _untrained(info.name, trains=request["data"] is not None)


def budget_of(request: dict[str, Any], make: Any) -> Any:
    """Return the Budget of what was typed; `make` is its class, whose import is heavy."""
    given = dict(request["budget"])
    return make(**_keep_ratios(given.pop("keep", ())), **given)


def _keep_ratios(given: tuple[str, ...]) -> dict[str, Any]:
    """Read --keep: 50% of all channels, each=50% of every group, or GROUP=40% of one; the last repeats."""
    pairs = [text.rpartition("=") for text in given]
    alone = [share for name, _, share in pairs if not name]
    groups = {name.strip(): share for name, _, share in pairs if name}
    hint = "One share of all channels (50%), and each=50% or GROUP=40% for every group that you name."
    if len(alone) > 1:
        raise InputError(f"two shares of all channels: {alone[0]} and {alone[1]}", where="--keep", hint=hint)
    if "each" in groups and len(groups) > 1:
        raise InputError("each=SHARE is of every group already", where="--keep", hint=hint)
    found: dict[str, Any] = {"keep": alone[0]} if alone else {}
    if groups:
        found["layer_keep"] = groups.get("each", groups)
    return found


def _data(request: dict[str, Any]) -> Any:
    """What is trained on, or calibrated on."""
    spec = request["data"] or request["calibrate"]
    if spec is None:
        return None
    from dtp_edge.training import is_sized, load_data, load_inputs
    from dtp_edge.zoo import usual_input

    shape, kind = _input_shape(request), spec.partition(":")[0]
    fixed = ".py:" in request["model"] or request["model"].endswith(".onnx")
    if shape is None and (kind == "images" or (kind == "digits" and fixed) or is_sized(spec)):
        shape = usual_input(request["model"])  # these pictures come in any size
    square = isinstance(shape, tuple) and len(shape) == 3 and shape[1] == shape[2]
    size = shape[1] if isinstance(shape, tuple) and square else None
    load = load_data if request["data"] is not None else load_inputs
    data = load(spec, size, request["workers"])
    folders = getattr(data, "folders", "")
    if folders and not request["quiet"]:
        say("data:", folders)
    return data


def _recipe(request: dict[str, Any], untrained: bool) -> Any:
    """A network with random weights is trained first, as long as it is after that; warm starts need masks."""
    if request["data"] is None:
        return None
    from dtp_edge.training import Recipe, parse_changes

    changes = parse_changes(request["set"])
    if request["demo"] and request["epochs"] is None:
        return dataclasses.replace(Recipe.demo(), **changes)
    given = {} if request["epochs"] is None else {"epochs": request["epochs"]}
    recipe = Recipe.for_epochs(**given, masks=bool(request["warm"]))
    recipe = dataclasses.replace(recipe, **changes)
    epochs = recipe.mask_epochs + recipe.tune_epochs
    trained = not untrained or "base_epochs" in changes
    return recipe if trained else dataclasses.replace(recipe, base_epochs=epochs)


def _untrained(name: str, *, trains: bool) -> str:
    what = "it is trained first, for as many epochs as follow" if trains else "so they mean nothing"
    return f"{name} has random weights: no --weights was given ({what})"


def _network(request: dict[str, Any], data: Any) -> tuple[Any, tuple[Any, ...], Any]:
    """Build MODEL for the data and the input shape that were named; one that it cannot have is refused."""
    from dtp_edge.zoo import resolve_model

    asked = _input_shape(request)
    module, inputs, info = resolve_model(
        request["model"],
        weights=request["weights"],
        num_classes=getattr(data, "num_classes", None),
        input_shape=asked or getattr(data, "input_shape", None),
    )
    reads = tuple(getattr(inputs[0], "shape", ())[1:])
    if isinstance(asked, tuple) and asked != reads:
        raise InputError(
            f"{request['model']} brings its own input of {list(reads)}",
            where="--input-shape",
            hint="Leave --input-shape out, or let MODEL bring that input.",
        )
    return module, inputs, info


def _input_shape(request: dict[str, Any]) -> tuple[int, ...] | dict[str, tuple[int, ...]] | None:
    """Read --input-shape: sizes of the one input, or NAME=SIZES;NAME=SIZES of an ONNX file's inputs."""
    text = request["input_shape"]
    if not text:
        return None
    if "=" not in text:
        return _sizes(text)
    pairs = [part.strip().rpartition("=") for part in text.split(";") if part.strip()]
    return {name.strip(): _sizes(sizes) for name, _, sizes in pairs}


def _sizes(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise InputError(
            f"{text!r} is not a shape",
            where="--input-shape",
            hint="For example 3,224,224, or audio=16000;state=2,1,64 for several inputs of an ONNX file.",
        )
    return shape


def plan_table(request: dict[str, Any], *, as_json: bool) -> None:
    """Print, for every device, what the budget asks and what can be reached, before any training."""
    from dtp_edge.run.feasibility import feasibility
    from dtp_edge.transport import Budget

    module, inputs, _ = _network(request, None)
    names = named_devices([n.strip() for n in request["device"].split(",") if n.strip()])
    informed = request["data"] is not None or request["calibrate"] is not None
    depth = informed if request["depth"] is None else request["depth"]
    given: dict[str, Any] = {n: request[n] for n in ("exclude", "part", "ram_by")} | {"depth": depth}
    plans = feasibility(module, inputs, names, budget_of(request, Budget), **given)
    if as_json:
        print_json(plans)
    else:
        show_plans(plans, verbose=request["verbose"])
    if not any(entry["feasible"] for entry in plans):
        raise BudgetError(
            "no device in this plan can meet the budget",
            hint="Raise it to the smallest reachable values above.",
        )


def named_devices(given: list[str]) -> list[str]:
    """Return the devices of a list, each once; `all` stands for every shipped profile."""
    from dtp_edge.profiles import list_profiles

    return list(dict.fromkeys(name for one in given for name in (list_profiles() if one == "all" else [one])))
