"""Operators that no label rule covers: what reaches them stays whole, but they are costed and stored."""

from __future__ import annotations

from dtp_edge.ops.spec import Spec, register

_STORED = {
    "pool": """
        aminmax argsort cummax cummin cumprod cumsum logcumsumexp median mode msort sort topk trace kthvalue
        count_nonzero max_unpool2d max_unpool3d
    """,
    "layout": """
        adjoint atleast_1d atleast_2d atleast_3d broadcast_tensors column_stack diag diag_embed diagflat
        diagonal diff dstack fliplr flipud hstack mH meshgrid narrow_copy nonzero rot90 select_scatter
        slice_scatter tril triu unsafe_split_with_sizes view_as_complex view_as_real vstack
    """,
    "embedding": """
        bucketize index_add index_copy index_fill index_put masked_scatter masked_select one_hot scatter
        scatter_add scatter_reduce searchsorted take take_along_dim
    """,
    "elementwise": """
        affine_grid_generator angle bitwise_left_shift bitwise_right_shift cdist complex conj conj_physical
        cosine_similarity cross deg2rad dist
        imag isclose isneginf isposinf lgamma linalg_cross pairwise_distance
        polar rad2deg real signbit special_gammaln special_i0 special_ndtr special_round
        kron linalg_vecdot vdot
    """,
    "softmax": "_log_softmax _softmax",
    "norm": "native_group_norm native_layer_norm",
    "other": "bilinear chain_matmul conv_tbc linalg_multi_dot tensordot",  # products whose MACs nobody counts
    "view": "sym_numel sym_size item",
}
_NOT_STORED = {
    "elementwise": """
        fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn fft_ifftn
        fft_rfftn fft_irfftn _fft_r2c _fft_c2r _fft_c2c stft istft
    """,
    "softmax": "_safe_softmax",
    "norm": "_weight_norm _weight_norm_interface",
    "embedding": "embedding_bag",
}
register(Spec(names=("digamma",), aliases={"special_digamma": "digamma"}, kernel="elementwise"))
for _families, _storable in ((_STORED, True), (_NOT_STORED, False)):
    for _kernel, _names in _families.items():
        register(Spec(names=tuple(_names.split()), kernel=_kernel, storable=_storable))
