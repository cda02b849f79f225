"""The operators that a stored network may hold: a fixed list, and what their arguments may be.

A name stands for all its overloads that compute tensors or sizes from tensors, numbers and the few words
below, and for its in-place variant. Not in the list is what no network's forward pass needs and what is
known to trust its arguments: gradients (`*_backward`), sparse, quantised and packed tensors, views of raw
storage, segment and bag reductions, gathers without a check of the index.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import torch
from torch import fx

from dtp_edge.archive.recurrent import GATES

_NAMES = """
  _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
  adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d
  max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices
  max_unpool2d max_unpool3d

  bilinear conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution
  linear addbmm addmm addmv addr baddbmm bmm chain_matmul dot einsum inner kron linalg_matmul
  linalg_multi_dot linalg_vecdot matmul mm mv outer scaled_dot_product_attention tensordot vdot embedding
  one_hot gru gru_cell lstm lstm_cell rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell

  _log_softmax _native_batch_norm_legit_no_training _softmax alpha_dropout batch_norm bernoulli dropout
  feature_alpha_dropout feature_dropout group_norm instance_norm layer_norm log_softmax native_batch_norm
  native_dropout native_group_norm native_layer_norm rms_norm softmax special_log_softmax special_softmax

  _prelu_kernel celu elu gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu log_sigmoid mish
  prelu relu relu6 rrelu selu sigmoid silu softplus softshrink special_expit tanh threshold

  __and__ __or__ __xor__ abs absolute acos acosh add addcdiv addcmul angle arccos arccosh arcsin arcsinh
  arctan arctan2 arctanh asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_not
  bitwise_or bitwise_right_shift bitwise_xor ceil clamp clamp_max clamp_min clip conj conj_physical
  copysign cos cosh deg2rad digamma div divide eq erf erfc erfinv exp exp2 expm1
  fake_quantize_per_channel_affine fake_quantize_per_tensor_affine fix float_power floor floor_divide
  fmax fmin fmod frac ge greater greater_equal gt heaviside hypot isclose isfinite isinf isnan isneginf
  isposinf ldexp le lerp less less_equal lgamma log log10 log1p log2 logaddexp logaddexp2 logical_and
  logical_not logical_or logical_xor logit lt maximum minimum mul multiply nan_to_num ne neg negative
  not_equal polar positive pow rad2deg reciprocal remainder round rsqrt rsub sgn sign signbit sin sinc
  sinh special_digamma special_erf special_erfc special_erfinv special_exp2 special_expm1 special_gammaln
  special_i0 special_log1p special_logit special_ndtr special_round special_sinc special_xlogy sqrt
  square sub subtract tan true_divide trunc where xlogy

  all amax amin aminmax any argmax argmin argsort cdist cosine_similarity count_nonzero cross cummax
  cummin cumprod cumsum dist linalg_cross linalg_vector_norm logcumsumexp logsumexp max mean median min
  nanmean nansum norm pairwise_distance prod sort special_logsumexp std std_mean sum topk trace var
  var_mean

  adjoint affine_grid_generator alias atleast_1d atleast_2d atleast_3d broadcast_tensors broadcast_to cat
  channel_shuffle chunk clone col2im column_stack concat concatenate constant_pad_nd contiguous copy
  detach diag diag_embed diagflat diagonal diff dstack expand expand_as fill flatten flip fliplr flipud
  gather grid_sampler grid_sampler_2d grid_sampler_3d hstack im2col index index_add index_copy index_fill
  index_put index_select lift_fresh lift_fresh_copy mH mT masked_fill masked_scatter masked_select
  matrix_H meshgrid moveaxis movedim narrow narrow_copy native_channel_shuffle nonzero numpy_T pad
  permute pixel_shuffle pixel_unshuffle ravel reflection_pad1d reflection_pad2d reflection_pad3d repeat
  repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape reshape_as resolve_conj
  resolve_neg roll rot90 scatter scatter_add scatter_reduce searchsorted bucketize select select_scatter
  slice slice_scatter split split_with_sizes squeeze stack swapaxes swapdims t take take_along_dim
  tensor_split tile transpose tril triu unbind unflatten unfold unsafe_chunk unsafe_split
  unsafe_split_with_sizes unsqueeze view view_as view_as_complex view_as_real view_copy vstack
  _unsafe_view

  _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
  _upsample_nearest_exact3d upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d
  upsample_nearest2d upsample_nearest3d upsample_trilinear3d

  _to_copy arange complex empty empty_like eye full full_like imag linspace new_empty new_full new_ones
  new_zeros ones ones_like rand rand_like randn randn_like real scalar_tensor sym_numel sym_size item to
  tril_indices triu_indices type_as zero zeros zeros_like
"""
STORABLE = frozenset(_NAMES.split())

_WORDS = frozenset(
    (
        "mode",
        "padding",
        "equation",
        "approximate",
        "rounding_mode",
        "indexing",
        "reduce",
        "padding_mode",
        "side",
    )
)
_WORD = re.compile(r"[A-Za-z0-9_,.> -]{0,200}")
_PLAIN = re.compile(
    r"(Optional\[)?(List\[)?(Optional\[)?(Tensor|number|int|bool|float|ScalarType|Layout|MemoryFormat|Device"
    r"|SymInt)\]{0,3}"
)
_RETURNS = re.compile(r"(Tensor|List\[Tensor\]|number|int|bool|float|SymInt)")
_LONGEST_LIST, _MOST_DIMS = 10_000, 64
_KINDS: dict[str, tuple[type, ...]] = {
    "Tensor": (int, float),  # a number where a tensor is asked for is one without dimensions
    "number": (int, float),
    "int": (int,),
    "SymInt": (int,),
    "bool": (bool,),
    "float": (int, float),
    "ScalarType": (torch.dtype,),
    "Layout": (torch.layout,),
    "MemoryFormat": (torch.memory_format,),
    "Device": (torch.device,),
}


@functools.cache
def allowed(overload: Any) -> bool:
    """Return whether a stored graph may hold this ATen operator."""
    schema = overload._schema
    name = schema.name.removeprefix("aten::")
    known = name in STORABLE or (name.endswith("_") and name[:-1] in STORABLE)
    packed = name in GATES and schema.overload_name == "data"  # a packed sequence, which no graph holds
    if not schema.name.startswith("aten::") or not known or packed:
        return False
    kinds = [str(a.real_type) for a in (*schema.arguments, *schema.returns)]
    if not any("Tensor" in kind for kind in kinds):
        return False  # TorchScript's own arithmetic: 1 % 0 of it ends the process
    for argument in schema.arguments:
        kind = str(argument.real_type)
        if argument.is_out:
            return False
        if kind in ("str", "Optional[str]"):
            if argument.name not in _WORDS:
                return False
        elif kind not in ("Generator", "Optional[Generator]") and not _PLAIN.fullmatch(kind):
            return False  # a generator is only ever left at its default: no value of it can be written
    return all(_RETURNS.fullmatch(str(r.real_type)) for r in schema.returns)


def misfit(overload: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return what is wrong with the arguments by the operator's schema: their number, names or types."""
    arguments = overload._schema.arguments
    positional = [a for a in arguments if not a.kwarg_only]
    if len(args) > len(positional):
        return f"has {len(args)} arguments; {overload} takes {len(positional)}"
    given = dict(zip((a.name for a in positional), args, strict=False))
    known = {a.name: a for a in arguments}
    for name in kwargs:
        if name in given or name not in known:
            return f"has the argument {name[:60]!r} twice, or {overload} has none of that name"
    given |= kwargs
    for name, argument in known.items():
        if name not in given:
            if not argument.has_default_value():
                return f"lacks the argument {name!r} of {overload}"
        elif not _fits(given[name], str(argument.real_type), argument.N):
            return f"has an argument {name!r} that is no {argument.real_type}"
    return None


def _fits(value: Any, kind: str, count: int | None) -> bool:
    if kind.startswith("Optional["):
        return value is None or _fits(value, kind[9:-1], count)
    if isinstance(value, fx.Node):
        return kind not in ("str", "ScalarType", "Layout", "MemoryFormat", "Device", "Generator")
    if kind.startswith("List["):
        inner = kind[5:-1]
        if isinstance(value, list | tuple):
            most = _LONGEST_LIST if "Tensor" in inner else _MOST_DIMS
            return len(value) <= most and all(_fits(v, inner, None) for v in value)
        return count is not None and _fits(value, inner, None)  # one number for all dimensions
    if kind == "str":
        return isinstance(value, str) and _WORD.fullmatch(value) is not None
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return False
    return isinstance(value, _KINDS.get(kind, ()))
