"""Candidate operations: ``OPS[name](c_in, c_out, stride, affine=True) -> nn.Module``.

Law: [B, c_in, H, W] -> [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉], finite gradient. `affine` is that of every
BatchNorm inside; DARTS searches without (a scale after an architecture weight would undo it).
"""

from archgrad.table import Entry, Table

_DARTS = "Liu et al. 2019, DARTS (arXiv 1806.09055)"
_NASNET = "Zoph et al. 2018, NASNet (arXiv 1707.07012); Real et al. 2019, AmoebaNet (arXiv 1802.01548)"
_NB201 = "Dong & Yang 2020, NAS-Bench-201 (arXiv 2001.00326)"
_FBNET = "Wu et al. 2019, FBNet (arXiv 1812.03443)"
_PROXYLESS = "Cai et al. 2019, ProxylessNAS (arXiv 1812.00332)"
_MNASNET = "Tan et al. 2019, MnasNet (arXiv 1807.11626)"
_MB = "archgrad.ops.inverted_residual"

OPS = Table(
    "operation",
    {
        "none": Entry("archgrad.ops.zero:Zero", "no connection: zeros", _DARTS),
        "skip_connect": Entry(
            "archgrad.ops.skip:skip_connect", "identity; factorised reduction where the shape changes", _DARTS
        ),
        "max_pool_3x3": Entry("archgrad.ops.pooling:max_pool_3x3", "3×3 max pooling", _DARTS),
        "avg_pool_3x3": Entry(
            "archgrad.ops.pooling:avg_pool_3x3", "3×3 average pooling, padding not counted", _DARTS
        ),
        "sep_conv_3x3": Entry(
            "archgrad.ops.convolution:sep_conv_3x3", "depthwise-separable 3×3 convolution, twice", _DARTS
        ),
        "sep_conv_5x5": Entry(
            "archgrad.ops.convolution:sep_conv_5x5", "depthwise-separable 5×5 convolution, twice", _DARTS
        ),
        "dil_conv_3x3": Entry(
            "archgrad.ops.convolution:dil_conv_3x3", "depthwise-separable 3×3 convolution, dilation 2", _DARTS
        ),
        "dil_conv_5x5": Entry(
            "archgrad.ops.convolution:dil_conv_5x5", "depthwise-separable 5×5 convolution, dilation 2", _DARTS
        ),
        "sep_conv_7x7": Entry(
            "archgrad.ops.convolution:sep_conv_7x7", "depthwise-separable 7×7 convolution, twice", _NASNET
        ),
        "conv_7x1_1x7": Entry(
            "archgrad.ops.convolution:conv_7x1_1x7", "1×7 and then 7×1 convolution, one BatchNorm", _NASNET
        ),
        "noise": Entry(
            "archgrad.ops.noise:Noise",
            "Gaussian noise in place of the input: a candidate that a search must avoid",
            "Zela et al. 2020, RobustDARTS (arXiv 1909.09656)",
        ),
        "nor_conv_1x1": Entry("archgrad.ops.convolution:nor_conv_1x1", "1×1 convolution", _NB201),
        "nor_conv_3x3": Entry("archgrad.ops.convolution:nor_conv_3x3", "3×3 convolution", _NB201),
        "mb_k3_e1": Entry(f"{_MB}:mb_k3_e1", "mobile block 3×3, no expansion", _FBNET),
        "mb_k3_e1_g2": Entry(f"{_MB}:mb_k3_e1_g2", "mobile block 3×3, no expansion, two groups", _FBNET),
        "mb_k3_e3": Entry(f"{_MB}:mb_k3_e3", "mobile block 3×3, expansion 3", _FBNET),
        "mb_k3_e6": Entry(f"{_MB}:mb_k3_e6", "mobile block 3×3, expansion 6", _FBNET),
        "mb_k5_e1": Entry(f"{_MB}:mb_k5_e1", "mobile block 5×5, no expansion", _FBNET),
        "mb_k5_e1_g2": Entry(f"{_MB}:mb_k5_e1_g2", "mobile block 5×5, no expansion, two groups", _FBNET),
        "mb_k5_e3": Entry(f"{_MB}:mb_k5_e3", "mobile block 5×5, expansion 3", _FBNET),
        "mb_k5_e6": Entry(f"{_MB}:mb_k5_e6", "mobile block 5×5, expansion 6", _FBNET),
        "mb_k7_e3": Entry(f"{_MB}:mb_k7_e3", "mobile block 7×7, expansion 3", _PROXYLESS),
        "mb_k7_e6": Entry(f"{_MB}:mb_k7_e6", "mobile block 7×7, expansion 6", _PROXYLESS),
        "mb_k3_e6_se": Entry(
            f"{_MB}:mb_k3_e6_se", "mobile block 3×3, expansion 6, squeeze-excitation", _MNASNET
        ),
        "mb_k5_e3_se": Entry(
            f"{_MB}:mb_k5_e3_se", "mobile block 5×5, expansion 3, squeeze-excitation", _MNASNET
        ),
    },
)
