"""Which kernel family each ATen op belongs to. Convolutions and linears are told apart by their shapes."""

from __future__ import annotations

_TABLE = """
view: view reshape _unsafe_view flatten unflatten unsqueeze squeeze dropout feature_dropout alpha_dropout
view: alias detach identity expand expand_as getitem contiguous to _to_copy type_as lift_fresh_copy view_as
view: clone resolve_conj ravel output _assert_tensor_metadata feature_alpha_dropout

activation: relu relu6 hardtanh clamp clamp_min clamp_max leaky_relu prelu elu selu celu sigmoid hardsigmoid
activation: hardswish silu mish gelu tanh softplus softsign log_sigmoid

elementwise: add sub rsub mul div pow sqrt rsqrt neg abs exp log erf maximum minimum where masked_fill square
elementwise: reciprocal floor ceil round sign sin cos eq ne gt lt ge le logical_and logical_not logical_or
elementwise: addcmul addcdiv lerp bitwise_not fill zeros_like ones_like full_like floor_divide remainder glu

pool: max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices
pool: adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
pool: mean sum amax amin max min var std var_mean logsumexp argmax argmin cumsum norm prod

layout: cat concat stack permute transpose t slice narrow select split split_with_sizes chunk unbind pad
layout: constant_pad_nd reflection_pad2d replication_pad2d roll flip pixel_shuffle pixel_unshuffle
layout: channel_shuffle repeat tile unfold im2col fold col2im movedim moveaxis swapaxes swapdims numpy_T mT
layout: index_select tril triu slice_scatter select_scatter copy repeat_interleave meshgrid

resize: upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d upsample_linear1d
resize: upsample_nearest3d upsample_trilinear3d interpolate grid_sampler grid_sampler_2d
resize: _upsample_nearest_exact2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa

softmax: softmax _softmax log_softmax _log_softmax _safe_softmax

norm: batch_norm _native_batch_norm_legit_no_training native_batch_norm layer_norm native_layer_norm
norm: group_norm native_group_norm instance_norm rms_norm local_response_norm linalg_vector_norm normalize

matmul: matmul mm bmm addmm baddbmm einsum scaled_dot_product_attention outer dot mv
recurrent: lstm gru rnn_tanh rnn_relu lstm_cell gru_cell
embedding: embedding gather index take take_along_dim embedding_bag scatter index_put
convolution: conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d
"""


def _read() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for line in filter(None, _TABLE.splitlines()):
        family, ops = line.split(":")
        table.setdefault(family, set()).update(ops.split())
    return {family: frozenset(ops) for family, ops in table.items()}


_OPS = _read()
VIEWS = _OPS.pop("view")
CONVOLUTIONS = _OPS.pop("convolution")
ACTIVATIONS = _OPS.pop("activation")
BATCH_NORMS = frozenset(op for op in _OPS["norm"] if "batch_norm" in op)
COMPUTE_FAMILIES = frozenset(
    ("conv1x1", "conv3x3", "conv", "depthwise", "grouped", "conv_transpose", "linear", "matmul", "recurrent")
)
FAMILY_OF = {op: family for family, ops in _OPS.items() for op in ops}
FAMILY_OF.update(dict.fromkeys(ACTIVATIONS, "elementwise"))
