"""What `prune-for-device --help` and `--help-all` say, and in which groups its options stand."""

from __future__ import annotations

from dtp_edge.cli.format_options import NAMES as FORMATS
from dtp_edge.cli.sweep_options import NAMES

SHORT = """\
Usage: {program} MODEL --device NAME --latency 60% [OPTIONS]

Prune a trained network to a budget on a named device, and prove the result.

MODEL          a zoo name, timm:NAME or another source, FILE.py:NAME, FILE.onnx
--device NAME  a name from `dtp-edge devices`, FILE.json, or host (this machine)
Budget         --latency 25ms --ram 256KiB --flash 1MiB --macs 50% --params 1e6
               --energy 5mJ --keep 50% (of all channels) each=50% GROUP=40%
               absolute or a share of the dense network; all that are given hold
Network        --weights FILE  --input-shape C,H,W  --exclude NAME  --part NAME
No labels      --calibrate SPEC  --images N: a few inputs in place of training
Training       --data SPEC --objective NAME --epochs N --set KEY=VALUE --seed N
               --workers N --resume --tensorboard --depth/--no-depth
Results        --out DIR --force --dynamic-batch --opset N --on PLACE -q -v
Other files    --int8 --int8-loss 1% --int8-per-tensor --format pte,tflite
               --require-delegated 95% --ram-by executorch --rewrites NAMES
Many cells     --sweep FILE --jobs N --ray ADDR --within 2h --per-cell X --warm
Instead        --plan: what can be had (--device a,b, all) --json --demo

  {program} resnet20 --device rpi4-ncnn-fp32-1t --latency 50% --plan
  {program} net.py:build --data imagefolder:DIR --device NAME --ram 50%

--help-all explains every option. Exit codes: 0 done, 2 bad input, 3 the budget
cannot be reached, 4 a check failed, 130 stopped (go on with --resume)."""

EPILOG = """\b
MODEL of a source, without weights and without a download: torchvision:resnet18,
timm:NAME, ultralytics:yolo11n, smp:unet-resnet18, torchaudio:NAME, and
transformers:TYPE, CONFIG.json or FOLDER, each with :TokenClassification or such.

\b
--data SPEC is digits, cifar10:DIR, fashion-mnist:DIR, imagefolder:DIR,
segfolder:DIR (images, masks), coco:IMAGES,BOXES.json, wavfolder:DIR, csv:FILE,
npz:FILE, hf:DIR or FILE.py:CALLABLE (docs/data.md); --calibrate SPEC as well
images:DIR, npz:FILE of inputs, and a CALLABLE that returns batches. Budgets are
absolute (25ms, 256KiB, 1MiB, 300e6) or a share of the dense network (60%); all
of them hold.

\b
--objective NAME is what the data's kind says, or classification, multi-label,
regression, segmentation, detection, image-to-image, image-to-image-ssim,
keypoints, ctc, token-classification, sequence-classification, ultralytics,
no-labels (the dense network's outputs are what is learned), or your own,
FILE.py:NAME: docs/tasks.md.

\b
--set changes the recipe, as in --set optimizer=adamw --set learning_rate=0.001:
  length      base_epochs mask_epochs tune_epochs batch_size accumulate
  optimizer   optimizer (sgd adamw) learning_rate (or base_ mask_ tune_ score_
              learning_rate) momentum weight_decay gradient_clip warmup
              schedule (cosine linear step onecycle constant)
  loss        distill (0: labels only) block_distill temperature label_smoothing
  otherwise   mixed_precision (no bf16 fp16) channels_last ema
              recalibrate_batches refit_images"""

GROUPS = {
    "Budget": ("latency", "ram", "flash", "macs", "params", "keep", "energy"),
    "Network": ("device", "weights", "input_shape", "exclude", "part", "depth"),
    "No labels": ("calibrate", "images"),
    "Training": ("data", "objective", "epochs", "set", "workers", "seed", "resume", "tensorboard"),
    "Results": ("out", "force", "int8", "dynamic_batch", "opset", "on", "as_json", "quiet", "verbose"),
    "Formats besides ONNX": FORMATS,
    "Many cells: --device a,b --latency 70%,50% or a file": NAMES,
    "Instead of a run": ("plan", "demo", "help_all", "_click_default_help"),
}
