"""Networks that are no DenseNets, told by names only they have, so that a refusal can say what a file is.

The names are those of torchvision, timm, transformers, ultralytics, keras.applications and TF-Slim.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a detector with a region proposal network (Faster or Mask R-CNN)", (r"rpn\.head\.", r"roi_heads?\.")),
    ("a YOLO", (r"model\.\d+\.m\.0\.cv1\.conv\.weight",)),
    ("a CLIP", (r"(visual\.transformer\.resblocks|vision_model\.encoder\.layers)\.0\.",)),
    ("a BERT or its kin", (r"embeddings\.word_embeddings\.", r"(layer|layers)\.0\.attention\.")),
    ("a language model", (r"(layers\.0\.self_attn\.[qk]_proj|h\.0\.attn\.c_attn)\.weight",)),
    ("a Swin Transformer", (r"(layers\.0\.blocks\.0|features\.1\.0)\.attn\.(relative_position_bias_table|cpb_mlp)",)),
    ("a MaxViT or CoAtNet", (r"rel(ative)?_pos\w*\.?\w*", r"(MBconv|stages\.0\.blocks\.0\.conv2_kxk)\b")),
    ("a Vision Transformer (ViT)", (r"blocks\.0\.attn\.", r"patch_embed\.proj\.weight")),
    ("a Vision Transformer (ViT)", (r"encoder\.layers\.encoder_layer_0\.(ln_1|self_attention)",)),
    ("a Vision Transformer (ViT)", (r"embeddings\.cls_token", r"embeddings\.patch_embeddings\.projection\.weight")),
    ("an MLP-Mixer", (r"blocks\.0\.mlp_tokens\.",)),
    ("an EdgeNeXt", (r"stages\.\d+\.blocks\.\d+\.xca\.",)),
    ("a ConvNeXt", (r"stages\.0\.blocks\.0\.conv_dw\.weight", r"stages\.0\.blocks\.0\.mlp\.fc1\.weight")),
    ("a ConvNeXt", (r"features\.1\.0\.layer_scale", r"features\.1\.0\.block\.0\.weight")),
    ("a ConvNeXt", (r"downsample_layers\.0\.0\.weight", r"stages\.0\.0\.dwconv\.weight")),
    ("an Inception-ResNet", (r"(?i:mixed_5b)\.\w+\.", r"repeat\.0\.branch0\.")),
    ("an Inception v3", (r"Mixed_5b\.branch1x1\.",)),
    ("a GoogLeNet (Inception v1)", (r"inception3a\.branch1\.",)),
    ("an HRNet", (r"stage2\.0\.branches\.0\.",)),
    ("an EfficientNet", (r"_conv_stem\.weight", r"_blocks\.0\._depthwise_conv\.weight")),
    ("a MobileNet v3", (r"conv_stem\.weight", r"blocks\.0\.0\.conv_dw\.weight", r"conv_head\.bias")),
    ("an EfficientNet", (r"conv_stem\.weight", r"blocks\.0\.0\.conv_dw\.weight", r"se\.conv_reduce\.", r"bn2\.weight")),
    ("an EfficientNet", (r"features\.1\.0\.block\.0\.0\.weight", r"features\.1\.0\.block\.\d\.fc1\.weight")),
    ("a MobileNet", (r"conv_stem\.weight", r"blocks\.0\.0\.conv_dw\.weight")),
    ("a MobileNet v3", (r"features\.1\.block\.0\.0\.weight",)),
    ("a MobileNet v2", (r"features\.1\.conv\.0\.0\.weight",)),
    ("an MNASNet", (r"layers\.8\.0\.layers\.0\.weight",)),
    ("an Xception", (r"block1\.rep\.0\.conv1\.weight",)),
    ("an Xception", (r"blocks\.0\.stack\.conv1\.conv_dw\.",)),
    ("a SqueezeNet", (r"features\.3\.squeeze\.weight", r"features\.3\.expand1x1\.weight")),
    ("a ShuffleNet", (r"stage2\.0\.branch1\.0\.weight",)),
    ("a RegNet", (r"(trunk_output\.block1\.block1-0\.f\.a\.0|s1\.b1\.conv1\.conv)\.weight",)),
    ("a ResNet or its kin", (r"layer1\.0\.conv1\.weight", r"layer4\.0\.conv1\.weight")),
    ("a VGG", (r"features\.0\.weight", r"pre_logits\.fc1\.weight")),
    ("a VGG or AlexNet", (r"features\.0\.weight", r"classifier\.(1|3)\.weight", r"classifier\.6\.weight")),
    ("a ResNet or its kin", (r"conv2_block1_3_conv\b", r"conv5_block1_1_conv\b")),
    ("a VGG", (r"block1_conv1\b", r"block5_conv1\b")),
    ("an EfficientNet", (r"block1a_dwconv\b", r"block2a_dwconv2?\b")),
    ("a MobileNet v2", (r"block_1_expand\b", r"block_1_depthwise\b")),
    ("a MobileNet", (r"conv_dw_1\b", r"conv_pw_1\b")),
    ("an Xception", (r"block2_sepconv1\b", r"block13_sepconv1\b")),
    ("a ResNet", (r"resnet_v[12]_\d+/block1/",)),
    ("an Inception", (r"Inception(V\d|Resnet\w*)/",)),
    ("a MobileNet", (r"Mobilenet(V\d)?/",)),
    ("a VGG", (r"vgg_\d+/conv1/",)),
)
"""What a network is called, and what must all stand in its names, each behind a dot, a slash or nothing."""


def other_network(names: Iterable[str]) -> str:
    """What the names are those of, with its article; empty where nothing known is recognised."""
    text = "\n".join(names)
    return next(
        (
            family
            for family, parts in FAMILIES
            if all(re.search(rf"(?:^|[./])(?:{part})", text, re.MULTILINE) for part in parts)
        ),
        "",
    )
