"""Which network a package ships under which name, and the input that the published tables ran it on.

`source:call` says who builds it: torchvision (`tv`, `seg`, `video`), timm, ultralytics (`yolo`, its YAML
file), transformers (`hf`), or a function of `builders.py` (`own`). `size` is height x width.
"""

from __future__ import annotations

_SIZE_224 = "224x224"

CATALOGUE: dict[str, tuple[str, str]] = {
    # torchvision
    **{
        name: (f"tv:{name}", _SIZE_224)
        for name in (
            "convnext_tiny",
            "convnext_base",
            "densenet121",
            "efficientnet_b0",
            "efficientnet_v2_s",
            "googlenet",
            "mnasnet0_5",
            "mobilenet_v2",
            "mobilenet_v3_large",
            "mobilenet_v3_small",
            "regnet_x_3_2gf",
            "regnet_y_800mf",
            "resnet18",
            "resnet34",
            "resnet50",
            "resnet101",
            "resnext50_32x4d",
            "resnext101_32x8d",
            "shufflenet_v2_x0_5",
            "squeezenet1_1",
            "swin_t",
            "swin_s",
            "swin_b",
            "swin_v2_b",
            "vgg16",
            "vgg19",
            "vit_b_16",
            "wide_resnet50_2",
        )
    },
    "efficientnet_b4": ("tv:efficientnet_b4", "380x380"),
    "inception_v3": ("tv:inception_v3", "299x299"),
    "resnet18_176x80": ("tv:resnet18", "176x80"),
    "resnet50_256x128": ("tv:resnet50", "256x128"),
    "fcn_resnet50_520": ("seg:fcn_resnet50", "520x520"),
    "r3d_18": ("video:r3d_18", "16x112x112"),
    "mc3_18": ("video:mc3_18", "16x112x112"),
    "r2plus1d_18": ("video:r2plus1d_18", "16x112x112"),
    # timm
    **{
        name: (f"timm:{name}", _SIZE_224)
        for name in (
            "beit_base_patch16_224",
            "dla102x",
            "efficientformer_l1",
            "efficientnet_es",
            "efficientvit_b2",
            "levit_128s",
            "mixnet_s",
            "mixnet_m",
            "mixnet_l",
            "mobilenetv1_100",
            "mobilenetv2_140",
            "mobilenetv4_conv_medium",
            "mobilenet_edgetpu_100",
            "vit_tiny_patch16_224",
        )
    },
    "mobilenet_edgetpu_075": ("own:mobilenet_edgetpu_075", _SIZE_224),
    "efficientnet_em": ("timm:efficientnet_em", "240x240"),
    "efficientnet_el": ("timm:efficientnet_el", "300x300"),
    "efficientnet_lite4": ("timm:efficientnet_lite4", "300x300"),
    "inception_v4": ("timm:inception_v4", "299x299"),
    "inception_resnet_v2": ("timm:inception_resnet_v2", "299x299"),
    "efficientvit_l2": ("timm:efficientvit_l2", "384x384"),
    "mobilevit_s": ("timm:mobilevit_s", "256x256"),
    "nasnetalarge": ("timm:nasnetalarge", "331x331"),
    "mobilenetv1_050_160": ("own:mobilenetv1_050", "160x160"),
    "mobilenetv1_025_128": ("own:mobilenetv1_025", "128x128"),
    "resnetv2_50_299": ("own:resnetv2_slim_50", "299x299"),
    "resnetv2_101_299": ("own:resnetv2_slim_101", "299x299"),
    "resnetv2_152_299": ("own:resnetv2_slim_152", "299x299"),
    "resnetv1_50_keras": ("own:resnet_keras_50", _SIZE_224),
    "resnetv1_50_slim": ("own:resnet_slim_50", _SIZE_224),
    "resnetv1_101_slim": ("own:resnet_slim_101", _SIZE_224),
    "resnetv1_152_slim": ("own:resnet_slim_152", _SIZE_224),
    # ultralytics
    **{
        name: (f"yolo:{name}", "640x640")
        for name in (
            "yolov5m",
            "yolov8n",
            "yolov8s",
            "yolov8m",
            "yolov8n-seg",
            "yolov8s-seg",
            "yolov8m-seg",
            "yolov8n-obb",
            "yolov8n-pose",
            "yolov9t",
            "yolov10n",
            "yolov10s",
            "yolo11n",
            "yolo11s",
            "yolo11m",
            "yolo11n-seg",
            "yolo26n",
            "yolo26n-seg",
            "yolo26n-pose",
        )
    },
    "fastsam_s": ("own:fastsam_s", "640x640"),
    "fastsam_x": ("own:fastsam_x", "640x640"),
    "yolov3_tiny_640": ("yolo:yolov3-tiny", "640x640"),
    # YOLOX, in modules of ultralytics
    "yolox_s": ("own:yolox_s", "640x640"),
    "yolox_m": ("own:yolox_m", "640x640"),
    "yolox_l": ("own:yolox_l", "640x640"),
    # transformers
    "segformer_b0": ("own:segformer_b0", "512x512"),
    "depth_anything_small": ("own:depth_anything_small", "518x518"),
    "bert_base": ("own:bert_base", "384"),
    "distilbert_base": ("own:distilbert_base", "384"),
    # U-Net as its paper has it, padded (milesial/Pytorch-UNet)
    "unet_640x1280": ("own:unet", "640x1280"),
}
