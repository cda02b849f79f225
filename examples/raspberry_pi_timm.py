"""A timm checkpoint for a Raspberry Pi: what can be had, then a network that has it.

    python examples/raspberry_pi_timm.py --weights mobilenetv3_small_100.safetensors \
        --data imagefolder:imagenet --epochs 5 --out runs/pi

Without --weights the network is random, and without --data nothing is trained: both only show the way.
"""

from __future__ import annotations

import argparse

import dtp_edge as dtp
from dtp_edge.zoo import resolve_model

BOARDS = ("rpi4-ncnn-fp32-1t", "rpi4-ncnn-fp32-4t", "rpi5-ncnn-fp16-1t")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mobilenetv3_small_100")
    parser.add_argument("--weights", help="checkpoint of that timm model")
    parser.add_argument("--data", help="imagefolder:DIR, or another --data of prune-for-device")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--latency", default="70%")
    parser.add_argument("--out", default="runs/raspberry-pi")
    options = parser.parse_args()

    model, example, info = resolve_model(f"timm:{options.model}", weights=options.weights)
    budget = dtp.Budget(latency=options.latency)
    print(f"{info.name}, input {info.input_shape}")
    for entry in dtp.feasibility(model, example, BOARDS, budget):
        row = next(r for r in entry["rows"] if r["metric"] == "latency_ms")
        verdict = "can be had" if entry["feasible"] else "cannot be had"
        print(
            f"{entry['device']:20} dense {row['dense']:6.1f} ms, asked {row['asked']:6.1f} ms, "
            f"smallest {row['smallest']:6.1f} ms: {verdict} ({entry['error_text']})"
        )

    result = dtp.prune_for_device(
        model,
        example,
        device=BOARDS[0],
        budget=budget,
        data=options.data,
        epochs=options.epochs if options.data else None,
        out=options.out,
        force=True,
    )
    latency = next(b for b in result.report["budgets"] if b["metric"] == "latency_ms")
    print(
        f"predicted {latency['dense_predicted']:.1f} ms before, {latency['pruned_predicted']:.1f} ms after; "
        f"open {options.out}/report.html"
    )


if __name__ == "__main__":
    main()
